"""A real browser with no network, for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [] if PATH else ["no Chromium: install it, on Debian with `apt-get install chromium`"]


@contextmanager
def chromium() -> Iterator:
    """Chromium that can resolve no name but this machine's."""
    from playwright.sync_api import sync_playwright

    options = [
        "--no-sandbox",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-background-networking",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=options)
        yield browser
        browser.close()


def watched(page, own: tuple[str, ...]) -> list[str]:
    """A list that grows with all that goes wrong on a page, or leaves `own` addresses."""
    wrong = []

    def asked(request):
        if not request.url.startswith((*own, "data:", "blob:")):
            wrong.append(f"request to {request.url}")

    def said(message):
        if message.type == "error":
            wrong.append(f"console: {message.text}")

    def opened(dialog):
        wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    page.on("request", asked)
    page.on("console", said)
    page.on("dialog", opened)
    page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} for {r.url}"))
    page.on("pageerror", lambda error: wrong.append(f"page error {error}"))
    return wrong


def stopped(page) -> dict[str, str]:
    """Requests for what is not part of a page, as they come; and why each failed."""
    found = {}

    def note(request):
        if "evil" in request.url:
            found[request.url] = request.failure

    page.on("request", note)
    page.on("requestfailed", note)
    return found
