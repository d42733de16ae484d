"""A browser of the system, the page over http and as a file, and a visit that records what must not happen."""

import functools
import http.server
import shutil
import threading
from urllib.parse import urlsplit

import pytest

from analysis import explore

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium of the system; nothing is downloaded."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs a Chromium on the path: apt-get install chromium, or dnf install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[dev]'")
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def addresses(tmp_path_factory):
    """Return the address of the folder over http and of the written page as a file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=explore.folder()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    file = explore.write(tmp_path_factory.mktemp("page"))
    yield {"http": f"http://127.0.0.1:{server.server_address[1]}/index.html", "file": file.as_uri()}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def visit(browser, addresses):
    """Return a function that opens the page; a console message, an error or a request elsewhere fails the test."""
    contexts, bad = [], []

    def visit(where="file", state="", *, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page, home = context.new_page(), urlsplit(addresses[where])

        def asked(request):
            there = urlsplit(request.url)
            if there.scheme != "data" and (there.scheme, there.netloc) != (home.scheme, home.netloc):
                bad.append(f"a request to {request.url}")

        page.on("request", asked)
        page.on("requestfailed", lambda request: bad.append(f"no answer from {request.url}"))
        page.on(
            "response", lambda response: bad.append(f"{response.status} {response.url}") if response.status >= 400 else None
        )
        page.on("console", lambda message: bad.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: bad.append(f"error: {error}"))
        page.goto(f"{addresses[where]}#{state}")
        page.locator("#page").wait_for(state="visible")
        return page

    visit.bad = bad
    yield visit
    for context in contexts:
        context.close()
    assert bad == []
