"""Putting addresses together: `urljoin` and `geturl`, worded here because versions differ in them.

Parsing is the standard module's. Its `urlunsplit` lost the slashes of a path that
starts with two before 3.13, so that another host was named than the one that was
parsed; this is the later form, on every version.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlparse, uses_netloc, uses_relative

_HIERARCHIC = frozenset(name for name in uses_netloc if name)


def unsplit(parts: Sequence[str]) -> str:
    """Return the address of (scheme, netloc, path, params, query, fragment)."""
    scheme, netloc, url, params, query, fragment = parts
    if params:
        url = f"{url};{params}"
    if netloc:
        if url and not url.startswith("/"):
            url = "/" + url
        url = f"//{netloc}{url}"
    elif url.startswith("//") or (scheme in _HIERARCHIC and (not url or url.startswith("/"))):
        url = "//" + url
    if scheme:
        url = f"{scheme}:{url}"
    if query:
        url = f"{url}?{query}"
    return f"{url}#{fragment}" if fragment else url


def join(base: str, url: str) -> str:
    """Return the absolute form of `url`, found in a document at `base` (RFC 3986, 5.2)."""
    if not base or not url:
        return base or url
    bscheme, bnetloc, bpath, bparams, bquery, _ = urlparse(base, "", True)
    scheme, netloc, path, params, query, fragment = urlparse(url, bscheme, True)
    if scheme != bscheme or scheme not in uses_relative:
        return url
    if scheme in uses_netloc:
        if netloc:
            return unsplit((scheme, netloc, path, params, query, fragment))
        netloc = bnetloc
    if not path and not params:
        return unsplit((scheme, netloc, bpath, bparams, query or bquery, fragment))
    return unsplit((scheme, netloc, _resolved(bpath, path), params, query, fragment))


def _resolved(base: str, path: str) -> str:
    """Return `path` as seen from `base`, without dots."""
    before = base.split("/")
    if before[-1] != "":
        del before[-1]  # the last item is not a directory
    if path.startswith("/"):
        segments = path.split("/")
    else:
        segments = before + path.split("/")
        segments[1:-1] = filter(None, segments[1:-1])  # of "a//b", where they were joined
    resolved: list[str] = []
    for segment in segments:
        if segment != "..":
            if segment != ".":
                resolved.append(segment)
        elif resolved:
            resolved.pop()
    if segments[-1] in (".", ".."):
        resolved.append("")
    return "/".join(resolved) or "/"
