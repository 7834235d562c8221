from hypothesis import settings

# The machine may be busy; a slow example is no failure. Failures print what reproduces them.
settings.register_profile("storage", deadline=None, print_blob=True)
settings.load_profile("storage")
