"""The chat on the real engine. Run with `pytest examples/chat`."""

from pathlib import Path

import pytest
from tidewell.testing import AppError, FunctionError, server_fixture

server = server_fixture(Path(__file__).parent.parent / "functions")


@pytest.fixture
def channel(server):
    return server.mutation("channels:create", {"name": "general"})


def send(server, channel, *texts, author="ada"):
    return [
        server.mutation("messages:send", {"channel": channel, "author": author, "text": text})
        for text in texts
    ]


def options(number, cursor=None):
    return {"numItems": number, "cursor": cursor}


def texts(page):
    return [message["text"] for message in page["page"]]


def test_a_channel_has_a_name_of_its_own(server):
    server.mutation("channels:create", {"name": " General ", "topic": "anything"})
    server.mutation("channels:create", {"name": "art"})
    assert [channel["name"] for channel in server.query("channels:list")] == ["art", "general"]
    with pytest.raises(AppError) as taken:
        server.mutation("channels:create", {"name": "GENERAL"})
    assert taken.value.data["code"] == "TAKEN"


@pytest.mark.parametrize("name", ["", "two words", "-x", "x" * 31])
def test_a_name_that_cannot_be_is_refused(server, name):
    with pytest.raises(AppError) as refused:
        server.mutation("channels:create", {"name": name})
    assert refused.value.data["code"] == "BAD_NAME"


def test_pages_joined_are_all_messages_newest_first(server, channel):
    send(server, channel, *(str(number) for number in range(7)))
    shown, cursor, is_done = [], None, False
    while not is_done:
        page = server.query("messages:page", {"channel": channel, "paginationOpts": options(3, cursor)})
        shown += texts(page)
        cursor, is_done = page["continueCursor"], page["isDone"]
    assert shown == ["6", "5", "4", "3", "2", "1", "0"]
    assert server.query("messages:count", {"channel": channel}) == 7


def test_who_watches_a_channel_sees_messages_come_change_and_go(server, channel):
    other = server.mutation("channels:create", {"name": "other"})
    first_page = {"channel": channel, "paginationOpts": options(10)}
    with server.subscribe("messages:page", first_page) as pages:
        assert texts(next(pages)) == []
        [hello] = send(server, channel, "hello")
        assert texts(next(pages)) == ["hello"]
        send(server, other, "not here")
        server.mutation("messages:edit", {"message": hello, "author": "ada", "text": "hello all"})
        [message] = next(pages)["page"]
        assert (message["text"], message["edited"]) == ("hello all", True)
        server.mutation("messages:remove", {"message": hello, "author": "ada"})
        assert texts(next(pages)) == []


def test_a_message_is_changed_by_its_author_alone(server, channel):
    [hello] = send(server, channel, "hello")
    for path, more in (("messages:edit", {"text": "bye"}), ("messages:remove", {})):
        with pytest.raises(AppError) as refused:
            server.mutation(path, {"message": hello, "author": "bob", **more})
        assert refused.value.data == {"code": "NOT_YOURS", "message": "Only ada can change this message."}


@pytest.mark.parametrize(("text", "code"), [("  ", "EMPTY"), ("x" * 1001, "TOO_LONG")])
def test_a_text_that_cannot_be_sent_is_refused(server, channel, text, code):
    with pytest.raises(AppError) as refused:
        send(server, channel, text)
    assert refused.value.data["code"] == code
    assert server.query("messages:count", {"channel": channel}) == 0


def test_an_id_of_something_else_is_no_channel(server, channel):
    [hello] = send(server, channel, "hello")
    with pytest.raises(FunctionError, match=r"args.channel: .* expected an id of table 'channels'"):
        send(server, hello, "hello")


def test_operators_remove_a_channel_and_nobody_else_does(server, channel):
    send(server, channel, *(str(number) for number in range(600)))
    with pytest.raises(FunctionError, match="Could not find public function"):
        server.mutation("channels:remove", {"channel": channel})
    operator = server.as_admin()
    assert operator.mutation("channels:remove", {"channel": channel}) is False
    assert operator.mutation("channels:remove", {"channel": channel}) is True
    assert server.query("channels:list") == []
    assert server.read(lambda db: db.query("messages").count()) == 0
