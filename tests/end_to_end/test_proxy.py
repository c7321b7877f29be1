"""The page behind nginx, under a path and TLS, in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from urllib.parse import urlsplit

import pytest
from selenium import webdriver

from benchmark.harness.server import ServerProcess
from tests.end_to_end.test_page import DIGITS, FLAGS, Page

CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location /vision/ {{ proxy_pass {url}/; {headers} proxy_set_header X-Forwarded-Prefix /vision; }}
    location = /plain {{ proxy_pass {url}/; {headers} }}
    location /plain/ {{ proxy_pass {url}/; {headers} }}
    location /kept {{ proxy_pass {url}; {headers} }}
  }}
}}
"""
HEADERS = """
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
"""


@pytest.fixture(scope="module")
def certificate(require, tmp_path_factory):
    """A folder with a key and a certificate that it signed itself."""
    folder = tmp_path_factory.mktemp("nginx")
    files = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", *files)
    subprocess.run([require("openssl"), *words], check=True, capture_output=True)
    return folder


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def served():
    """A server that trusts its neighbours, has a path of its own, and writes a line per request."""
    proxy = ("--root-path", "/kept", "--trusted-proxy", "127.0.0.1")
    log = ("--access-log", "--access-log-format", "json")
    with ServerProcess("--model", "models/demo", "--workers", "1", *proxy, *log) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(require, certificate, served):
    """The address of nginx in front of it."""
    port = free_port()
    config = certificate / "nginx.conf"
    config.write_text(CONFIG.format(folder=certificate, port=port, url=served.url, headers=HEADERS))
    with subprocess.Popen([require("nginx"), "-c", str(config)], stderr=subprocess.PIPE, text=True) as process:
        try:
            while not listens(port):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def browser(require, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium")
    options.accept_insecure_certs = True
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(require("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.parametrize("path", ["/vision/", "/plain", "/plain/", "/kept", "/kept/"])
def test_the_page_classifies_and_shows_the_command_with_the_path(browser, proxy, path):
    """nginx takes the path off in front of the first three; /plain and /kept have no slash at their ends."""
    page = Page(browser, proxy + path)
    page.choose(DIGITS[5])
    assert page.labels()[0] == "5"
    assert page.text("model").startswith("Model: digits")
    assert page.text("command").endswith(f" {proxy}{path.rstrip('/')}/classify")
    addresses = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    asked = {urlsplit(address).path for address in addresses if address.startswith("https:")}
    assert asked == {f"{path.rstrip('/')}/models", f"{path.rstrip('/')}/classify"}
    assert page.driver.get_log("browser") == []


def fetched(require, *words):
    """What curl prints; it trusts the certificate blindly."""
    return subprocess.run([require("curl"), "-sSk", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", ["/vision", "/kept"])
def test_the_commands_of_the_cheat_sheet_work_as_they_are_shown(require, proxy, path):
    sheet = fetched(require, f"{proxy}{path}/")
    assert f" {proxy}{path}/classify\n" in sheet
    answer = json.loads(fetched(require, "-T", str(DIGITS[7]), f"{proxy}{path}/classify"))
    assert answer["predictions"][0]["label"] == "7"


def test_the_access_log_has_the_client_in_front_of_the_proxy(require, proxy, served):
    fetched(require, "-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Request-ID: behind", f"{proxy}/vision/models")
    while not (lines := [line for line in served.stderr().splitlines() if '"behind"' in line]):
        time.sleep(0.01)
    # nginx adds 127.0.0.1, which is trusted; so the one before it counts.
    assert json.loads(lines[0])["client"] == "203.0.113.9"
    assert json.loads(lines[0])["path"] == "/models"
