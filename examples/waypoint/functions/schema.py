"""What Waypoint keeps: people, what they post about places, who likes what, and letters."""

from tidewell import Id, Schema, table

schema = Schema(
    users=table(name=str, key=str).index("by_key", "key", unique=True),
    posts=table(author=Id["users"], place=str, text=str, likes=int)
    .index("by_place", "place")
    .index("by_likes", "likes"),
    likes=table(user=Id["users"], post=Id["posts"]).index("by_user_and_post", "user", "post"),
    letters=table(user=Id["users"], text=str).index("by_user", "user"),
)
