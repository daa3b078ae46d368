"""Keys that stand for credentials without holding them."""

import os
from hashlib import blake2b

# Of this process, and of those that it forks.
_KEY = os.urandom(32)


def secret_key(*parts: object) -> str:
    """A key for credentials: equal for equal parts, and nothing of them can be read from it or from its repr.

    The parts are hashed whole (BLAKE2b, 256 bits, with a random key of this process), so two tokens that begin alike
    are two keys; a stored or logged key is of no use in any other process. A part is a `str`, `bytes`, `int`, `float`,
    `bool`, `None`, or a tuple of these; types are told apart, and so are the places where one part ends and the next
    begins. O(length of the parts). Raises TypeError for any other part.

    >>> secret_key("https://api.example", "token") == secret_key("https://api.example", "token")
    True
    """
    if not parts:
        raise TypeError("secret_key needs at least one part: secret_key(url, token)")
    digest = blake2b(key=_KEY, digest_size=32)
    for piece in _pieces(parts):
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return f"secret:{digest.hexdigest()}"


def _pieces(part: object) -> list[bytes]:
    """A part as bytes, its kind first."""
    if isinstance(part, str):
        return [b"str", str.__str__(part).encode(errors="surrogatepass")]
    if isinstance(part, bytes):
        return [b"bytes", part]
    if part is None or type(part) in (bool, int, float):
        return [type(part).__name__.encode(), repr(part).encode()]
    if isinstance(part, tuple):
        return [b"tuple", str(len(part)).encode(), *(piece for each in part for piece in _pieces(each))]
    kind = type(part).__name__
    raise TypeError(f"secret_key takes str, bytes, numbers, None and tuples of them; got {kind}: give its fields")
