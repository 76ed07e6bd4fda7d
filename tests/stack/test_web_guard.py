"""What a server answers: programs and its own pages, by its own names; never another web page."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from aeops.machine.prefect_server import CredentialsGuard, is_readable
from aeops.machine.web_guard import WebGuard

OWN = "http://127.0.0.1:4200"
FOREIGN = (
    "http://evil.example",
    "http://127.0.0.1:8000",
    "http://localhost:4200",
    "https://127.0.0.1:42",
    "null",
    "",
    "http://[",
)


async def answer(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("done", headers={"x-frame-options": "DENY"})


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("done")
    await websocket.close()


def client(own_names_only: bool = True, address: str = OWN) -> TestClient:
    routes = [Route("/{path:path}", answer, methods=["GET", "POST", "OPTIONS", "DELETE"]), WebSocketRoute("/{path:path}", talk)]
    return TestClient(WebGuard(Starlette(routes=routes), own_names_only=own_names_only), base_url=address)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_is_refused_whatever_it_asks(method: str, origin: str) -> None:
    told = client().request(method, "/api/flows/", headers={"origin": origin})
    assert told.status_code == 403
    assert "another web page" in told.text
    assert not [name for name in told.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_websocket_of_another_origin_is_refused(origin: str) -> None:
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/in", headers={"origin": origin}):
        pass


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_of_another_page_is_refused_and_its_link_followed(site: str) -> None:
    assert client().post("/", headers={"sec-fetch-site": site}).status_code == 403
    assert client().get("/", headers={"sec-fetch-site": site}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4200", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1"]
)
def test_a_name_that_others_point_at_this_machine_is_refused(host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert client().get("/", headers={"host": host}).status_code == 403
    assert client().post("/", headers=headers).status_code == 403
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/in", headers=headers):
        pass


@pytest.mark.parametrize("address", [OWN, "http://localhost:9", "http://[::1]:4200", "http://127.0.0.2"])
def test_its_own_pages_and_programs_are_answered(address: str) -> None:
    own = client(address=address)
    for headers in ({}, {"origin": address}, {"origin": address.upper(), "sec-fetch-site": "same-origin"}):
        assert own.post("/", headers=headers).text == "done"
        with own.websocket_connect("/in", headers={"host": address.partition("//")[2]} | headers) as websocket:
            assert websocket.receive_text() == "done"


def test_a_server_with_a_password_answers_to_any_name_and_still_to_its_own_pages_alone() -> None:
    other = client(own_names_only=False, address="https://ae.example.org")
    assert other.post("/", headers={"origin": "https://ae.example.org"}).status_code == 200
    assert other.post("/", headers={"origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/a%00b", "/a?path=%00"])
def test_a_nul_character_in_an_address_is_refused(path: str) -> None:
    assert client().get(path).status_code == 400


def test_headers_are_added_where_the_program_sets_none() -> None:
    told = client().get("/").headers
    assert (told["x-frame-options"], told["x-content-type-options"]) == ("DENY", "nosniff")
    assert told["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("header", "readable"),
    [
        (b"", True),
        (b"Basic YWU6c2VjcmV0", True),
        (b"Bearer token", True),
        (b"Basic \xff", False),
        (b"Basic w6k6w6k=", False),
        (b"Basic /w==", False),
    ],
)
def test_credentials_that_prefect_fails_at_are_refused_before(header: bytes, readable: bool) -> None:
    assert is_readable(header) == readable
    guarded = TestClient(CredentialsGuard(Starlette(routes=[Route("/", answer)])))
    told = guarded.get("/", headers={"authorization": header})  # type: ignore[dict-item]  # httpx takes bytes
    assert told.status_code == (200 if readable else 401)
