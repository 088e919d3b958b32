"""A host that keeps its tokens as Python's libraries do, with several sessions at a time. Takes the relay's URL, the
messages' mount, and which library; says nothing where all is well."""

import http.cookiejar
import sys
import threading
import urllib.error
import urllib.request

SESSIONS = 3


class Requests:
    """requests, whose sessions have a jar."""

    def __init__(self):
        import requests

        self.session = requests.Session()
        self.cookies = self.session.cookies

    def ask(self, method, url, body=None, headers={}):
        answer = self.session.request(method, url, data=body, headers=headers)
        return answer.status_code, answer.headers, answer.content


class Urllib:
    """The standard library."""

    def __init__(self):
        self.cookies = http.cookiejar.CookieJar()
        keeper = urllib.request.HTTPCookieProcessor(self.cookies)
        self.opener = urllib.request.build_opener(keeper)

    def ask(self, method, url, body=None, headers={}):
        request = urllib.request.Request(url, data=body, method=method, headers=headers)
        try:
            answer = self.opener.open(request)
        except urllib.error.HTTPError as error:
            answer = error
        return answer.status, answer.headers, answer.read()


def guest(method, url, body=None):
    """One who keeps no cookies, beside the caller."""
    said = []

    def ask():
        request = urllib.request.Request(url, data=body, method=method)
        with urllib.request.urlopen(request) as answer:
            said.append((answer.status, answer.headers.get("X-Role"), answer.read()))

    thread = threading.Thread(target=ask)
    thread.start()

    def join():
        thread.join()
        return said[0]

    return join


def expect(what, want):
    if what != want:
        raise SystemExit(f"{what!r} where {want!r} belongs")


def paths(client):
    return {cookie.path for cookie in client.cookies}


def issue(client, url, mount):
    """Sessions of the two-step exchange and of messages, each with a path of its own."""
    status, headers, _ = client.ask("POST", url + "/")
    expect(status, 201)
    exchange = headers["Location"]
    locations = []
    for _ in range(SESSIONS):
        status, headers, _ = client.ask("PUT", url + mount)
        expect((status, headers.get("X-Role")), (201, "host"))
        expect(headers["Location"][:len(url + mount)], url + mount)
        locations.append(headers["Location"].removeprefix(url))
    expect(paths(client), {exchange.removeprefix(url), *locations})
    return exchange, locations


def converse(client, url, location):
    """Both directions."""
    sent = guest("POST", url + location, b"to the host")
    status, headers, body = client.ask("GET", url + location)
    expect((status, headers.get("X-Role"), body), (200, "host", b"to the host"))
    expect(sent()[:2], (200, "guest"))
    received = guest("GET", url + location)
    status, headers, _ = client.ask("POST", url + location, b"to the guest")
    expect((status, headers.get("X-Role")), (200, "host"))
    expect(received(), (200, "guest", b"to the guest"))


def main():
    url, mount, library = sys.argv[1:]
    client = {"requests": Requests, "urllib": Urllib}[library]()
    exchange, locations = issue(client, url, mount)
    for location in locations + locations[::-1]:
        converse(client, url, location)
    timeout = {"X-Timeout": "1"}
    status, headers, _ = client.ask("GET", url + locations[0], headers=timeout)
    expect((status, headers.get("X-Role")), (504, "host"))
    converse(client, url, locations[0])
    for count, location in enumerate(locations, 1):
        status, headers, _ = client.ask("DELETE", url + location)
        expect((status, headers.get("X-Role")), (200, "host"))
        expect(paths(client) & set(locations), set(locations[count:]))
    status, headers, _ = client.ask("DELETE", exchange)
    expect((status, headers.get("X-Role")), (200, None))


main()
