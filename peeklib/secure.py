"""Content-security policies: a page says what it may run and load, and a browser holds it to that."""

import base64
import hashlib
import html
from collections.abc import Mapping


def digest(text: str) -> str:
    """The hash by which a policy names an inline script or style.

    Returns:
        A source of a content-security policy, quoted.

    Example:
        >>> digest("")
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    code = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(code).decode('ascii')}'"


def policy(rules: Mapping[str, str]) -> str:
    """A content-security policy as an element; it has to come before all that it rules.

    Args:
        rules: directive → what it allows, as in the HTTP header.

    Returns:
        HTML.

    Example:
        >>> print(policy({"default-src": "'none'"}))
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'">
    """
    content = "; ".join(f"{name} {allowed}" for name, allowed in rules.items())
    return (
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(content, quote=False)}">'
    )
