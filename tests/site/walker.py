"""Walks a built site in a real browser and says what is wrong with it, page by page."""
import functools
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]

# What the page itself knows: its links and anchors, broken pictures, failed mathematics, what sticks out sideways.
LOOK = """() => ({
  links: [...document.querySelectorAll('a[href]')].map(a => a.href),
  anchors: [...document.querySelectorAll('[id], a[name]')].map(e => e.id || e.name),
  pictures: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 200)),
  tex: [...document.querySelectorAll('mjx-merror')].map(e => e.getAttribute('title') || e.textContent),
  untouched: [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).map(e => e.textContent.slice(0, 80)),
  width: document.documentElement.scrollWidth, screen: document.documentElement.clientWidth,
})"""
SETTLED = """async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  document.querySelectorAll('img').forEach(i => i.loading = 'eager');
  await Promise.all([...document.images].map(i => i.decode().catch(() => 0)));
}"""


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass                                           # a page that is left while it loads breaks its connections


@contextmanager
def serve(folder):
    "The folder at an address of this machine."
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def listen(page, base, faults):
    "Put into `faults` whatever goes wrong while the page loads and runs."
    page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: faults.append(f"script: {e}"))
    page.on("requestfailed", lambda r: faults.append(f"request failed: {r.url[:200]}"))
    page.on("response", lambda r: faults.append(f"status {r.status}: {r.url[:200]}") if r.status >= 400 else None)
    page.on("request", lambda r: faults.append(f"another host: {r.url[:200]}")
            if not r.url.startswith((base, "data:", "blob:")) else None)


def visit(page, base, name):
    "`(faults, links, anchors)` of one page, at 375 pixels' width, where most can stick out."
    faults = []
    listen(page, base, faults)
    page.goto(base + name, wait_until="load")
    page.evaluate(SETTLED)
    seen = page.evaluate(LOOK)
    faults += [f"picture: {src}" for src in seen["pictures"]] + [f"TeX: {what}" for what in seen["tex"]]
    faults += [f"mathematics not set: {what}" for what in seen["untouched"]]
    if seen["width"] > seen["screen"]:
        faults.append(f"{seen['width']} pixels wide on a screen of {seen['screen']}")
    return faults, seen["links"], set(seen["anchors"])


def dead(base, folder, name, links, anchors):
    "The links of one page that lead nowhere: no such file, or no such place in the page."
    for link in sorted(set(links)):
        if not link.startswith(base):
            continue                                   # other hosts are not asked: a test must not need the network
        parts = urlsplit(link)
        target = unquote(parts.path).lstrip("/") or "index.html"
        target += "index.html" if target.endswith("/") else ""
        if not (Path(folder) / target).is_file():
            yield f"dead link: {urljoin(base, link)[len(base):]}"
        elif parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
            yield f"dead anchor: {link[len(base):]}"


def walk(browser, folder, only=None):
    "`{page: [faults]}` for every page of the site that has any, and how many pages were walked."
    pages = sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*.html") if "_static" not in p.parts)
    report, links, anchors = {}, {}, {}
    with serve(folder) as base:
        context = browser.new_context(viewport={"width": 375, "height": 800})
        for name in only or pages:
            page = context.new_page()
            report[name], links[name], anchors[name] = visit(page, base, name)
            page.close()
        context.close()
        for name in links:
            report[name] += dead(base, folder, name, links[name], anchors)
    return {name: faults for name, faults in report.items() if faults}, len(report)
