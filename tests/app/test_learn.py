"""`dlagg learn` and `make learn` serve the first lesson: seen with a real browser."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from conftest import ROOT, need

DLAGG = Path(sys.executable).with_name("dlagg")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-component-update", "--disable-sync"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def served(request, tmp_path):
    "Address of a JupyterLab started by the command under test; it is stopped afterwards."
    port, command, folder = free_port(), request.param, tmp_path
    commands = {"dlagg learn": [DLAGG, "learn", "--no-browser", f"--port={port}", "--", "--allow-root"],
                "make learn": ["make", "-C", ROOT, "learn", f"LAB=--no-browser --port={port} --allow-root"]}
    env = {**os.environ, "JUPYTER_TOKEN": "lesson", "HOME": str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        lab = subprocess.Popen(commands[command], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=lesson", timeout=1)
                break
            except OSError:
                assert lab.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.25)
        yield port, "nbs/0_course" if command == "make learn" else "0_course"
    finally:
        os.killpg(lab.pid, signal.SIGTERM)
        lab.wait(30)


@pytest.mark.parametrize("served", ["dlagg learn", "make learn"], indirect=True)
def test_the_first_lesson_opens(served):
    need(shutil.which("chromium"), "chromium")
    from playwright.sync_api import sync_playwright
    port, tree = served
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/lab/tree/{tree}/01_tour.ipynb?token=lesson")
        page.get_by_role("heading", name="A tour in ten minutes").wait_for(timeout=90_000)
        page.locator(".jp-CodeCell").first.wait_for(timeout=30_000)
        page.get_by_role("heading", name="The question: who is about to leave?").wait_for(timeout=30_000)
        browser.close()
