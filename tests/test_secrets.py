"""Secrets: which texts of a config are some, and that no file of a run and no message holds them. Real processes."""

import json
import logging
import re
from typing import Any

import pytest
from conftest import load

import data_loader.datasets
import test as test_script
import train as train_script
from data_loader.datasets import Digits
from utils.secrets import REDACTED, holds_secret, is_secret, missing_secrets, redacted, redacted_arguments


class Remote(Digits):
    """The digits, from a server that says whom it refuses."""

    def __init__(self, split, server: dict[str, Any], fails: str = ""):
        super().__init__(split)
        logging.getLogger("remote").info("asked with %s", server)
        if fails:
            raise ValueError(f"the server refused {fails} {server[fails]!r}: {server[fails]}")


SECRETS = {
    "api_keys": ["first-key-0001", "second-key-0002"],
    "tokens": "tok-00000003",
    "auth": ["me", "auth-000004"],
    "bearer": "bearer-00005",
    "cookie": "session=cookie06",
    "access_key_id": "AKIA00000007",
    "pwd": "pwd08",
    "headers": {"Authorization": "Bearer hidden-00009", "Accept": "text/csv"},
    "url": "https://me:pass-00010@example.org/data.csv?version=3&X-Amz-Date=1&X-Amz-Signature=sign00011",
    "database": "postgresql://me:p%40ss00012@example.org:5432/digits",
    "mirrors": ["https://ghp_00000013@example.org/x.git", "https://example.org/?sv=1&sig=sig00014%3D"],
    "dsn": "host=example.org user=me password=pass00015",
}
TEXTS = (
    "first-key-0001 second-key-0002 tok-00000003 auth-000004 bearer-00005 cookie06 AKIA00000007 pwd08 hidden-00009 "
    "pass-00010 sign00011 p%40ss00012 p@ss00012 ghp_00000013 sig00014 pass00015"
).split()
READABLE = {"max_tokens": 512, "pad_token": "<pad>", "special_tokens": ["<s>"], "author": "me", "use_auth": True}


@pytest.fixture(autouse=True)
def _said_by(write_into):
    write_into(data_loader.datasets, Remote)


@pytest.fixture
def said_by(project, monkeypatch):
    """Run a command, of which `sys.argv` is that of a process; its exit code and all that it printed."""

    def run(*arguments, script=train_script):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, arguments)])
        code, out, err = project.command(script, *arguments)
        assert "Traceback" not in err, err
        return code, out + err

    return run


def config_of(project, fails="", **server):
    dataset = {"type": "Remote", "args": {"server": SECRETS | READABLE | server, "fails": fails}}
    return project.write_config(dataset=dataset, trainer={"epochs": 1, "epoch_steps": 1, "tensorboard": True})


def assert_hidden(content, where):
    assert [text for text in TEXTS if text in content] == [], where


def test_no_file_of_a_run_and_no_message_holds_them_and_a_resume_asks_for_them(project, said_by):
    config = config_of(project)
    again = [f"dataset.args.server.{name}={json.dumps(value)}" for name, value in SECRETS.items()]
    code, said = said_by("-c", config, "--set", *again, f"--set={again[-1]}")
    assert code == 0 and "asked with" in said, said
    assert_hidden(said, "the screen")
    (run,) = project.run_dirs()
    for path in run.iterdir():
        assert_hidden(path.read_bytes().decode(errors="replace"), path)
    saved = json.loads((run / "config.json").read_text())["dataset"]["args"]["server"]
    assert {name: saved[name] for name in READABLE} == READABLE
    assert saved["url"] == (
        f"https://{REDACTED}@example.org/data.csv?version=3&X-Amz-Date={REDACTED}&X-Amz-Signature={REDACTED}"
    )
    assert saved["headers"] == {"Authorization": REDACTED, "Accept": "text/csv"}
    assert load(run / "last.pth")["config"]["dataset"]["args"]["server"] == saved
    printed = said_by("-c", config, "--print-config")[1]
    assert_hidden(printed, "--print-config")

    code, said = said_by("-r", run, "--set", "trainer.epochs=2")
    assert code == 2
    asked = re.findall(r"Give it again: --set (\S+)=", said)
    places = [*list(SECRETS)[:7], "headers.Authorization", "url", "database", "mirrors.0", "mirrors.1", "dsn"]
    assert asked == [f"dataset.args.server.{place}" for place in places]
    renewed = [text.replace("sign00011", "sign99999").replace("X-Amz-Date=1", "X-Amz-Date=2") for text in again]
    code, said = said_by("-r", run, "--set", "trainer.epochs=2", *renewed)
    assert code == 0 and "Finished: epoch 2 of 2" in said, said
    assert said_by("-r", run, "--set", *again, script=test_script)[0] == 0
    assert_hidden(b"".join(path.read_bytes() for path in run.iterdir()).decode(errors="replace"), "after the resume")


@pytest.mark.parametrize("name", ["api_keys", "tokens", "pwd", "url", "database", "headers"])
def test_a_constructor_that_quotes_one_does_not_show_it(project, said_by, name):
    code, said = said_by("-c", config_of(project, fails=name))
    assert code == 2 and f"Remote cannot be made: the server refused {name}" in said and REDACTED in said
    assert_hidden(said, name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "dataset.args.toekn=hunter2"],
        ["--set", "dataset.args.passwrod=hunter2"],
        ["--set", "dataset.args.token:hunter2"],
        ["--set", "dataset.args.token", "hunter2"],
        ["--set", "dataset.args.token=", "hunter2"],
        ["--set", "dataset.args.token", "=", "hunter2"],
        ["--set", 'dataset.args={"token": "hunter2"'],
        ["--set", 'dataset.args={"token": "hunter2", "token": "hunter2"}'],
        ["--set", "dataset.args.apikey=hunter2", "dataset.args.apikey.x=1"],
        ["--set", "dataset.args.url=https://me:hunter2@example.org"],
        ["--token", "hunter2"],
        ["--toekn=hunter2"],
        ["dataset.args.token=hunter2"],
        ["--init-from", "https://me:hunter2@example.org/x.pth"],
        ["--set", "dataset=https://me:hunter2@example.org"],
    ],
)
def test_a_message_about_a_misspelt_argument_does_not_quote_it(project, arguments):
    message = project.refused_config(*arguments)
    assert "hunter2" not in message and message.count("error: ") >= 1, message
    message = project.refused("-r", project.folder, *arguments, script=test_script)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"dataset": {"args": {"token": hunter2}}}'),
        ("c.json", '{"dataset": {"token": "hunter2"}, "model": [}'),
        ("c.json", '{"dataset": [{"token": "hunter2"}], "name": "x"}'),
        ("c.json", '{"dataset": "https://me:hunter2@example.org", "name": 5}'),
        ("c.yaml", "dataset:\n  password: *hunter2\n"),
        ("c.yaml", "dataset:\n  password: !hunter2\n"),
        ("c.yaml", "dataset:\n  password: hunter2: x\n"),
    ],
)
def test_nor_does_one_about_a_config_that_cannot_be_read(project, name, text):
    path = project.folder / name
    path.write_text(text)
    assert "hunter2" not in project.refused("-c", path)


def test_a_variable_that_is_named_as_one_is_one_and_the_working_directory_is_none(project, said_by, monkeypatch):
    monkeypatch.setenv("DB_PASS", "hunter2hunter2")
    monkeypatch.setenv("PWD", str(project.folder))
    code, said = said_by("-c", config_of(project, fails="source", source="${env:DB_PASS}"))
    assert code == 2 and "hunter2" not in said and f"refused source '{REDACTED}'" in said
    code, said = said_by("-c", config_of(project, fails="source", source="${env:PWD}"))
    assert code == 2 and f"refused source '{project.folder}'" in said


def test_a_run_that_an_older_version_wrote_with_them_goes_on(project, said_by):
    config = config_of(project)
    assert said_by("-c", config)[0] == 0
    (run,) = project.run_dirs()
    written = json.loads((run / "config.json").read_text())
    written["dataset"]["args"]["server"] |= SECRETS
    (run / "config.json").write_text(json.dumps(written))
    code, said = said_by("-c", config, "-r", "auto", "--set", "trainer.epochs=2")
    assert code == 0 and project.run_dirs() == [run], said
    assert_hidden((run / "config.json").read_text(), "written again")


@pytest.mark.parametrize("text", ["it", "abc", "of"])
def test_a_short_one_does_not_spoil_a_message(project, said_by, text):
    said = said_by("-c", config_of(project, fails="pwd", pwd=text))[1]
    assert f"Remote cannot be made: the server refused pwd '{REDACTED}'" in said


SECRET_KEYS = (
    "api_keys tokens auth basic_auth bearer cookie cookies access_key_id accessKeyId awsSecretKey pwd PWD apiKeys "
    "session_id authorization X-Api-Key dbPassword token_2 api_key_1 idToken signing_key webhook_url db_pass"
).split()
OTHER_KEYS = (
    "pad_token pad_token_id num_tokens max_tokens maxTokens max_new_tokens token_length token_type_ids special_tokens "
    "vocab_tokens token_embedding_dim key keys num_keys image_key author authors authority secretary cookie_cutter "
    "forward_pass bypass compass pin_memory password_file private_key_path auth_url api_key_name tokenize"
).split()


@pytest.mark.parametrize("key", SECRET_KEYS + OTHER_KEYS)
def test_keys_are_compared_word_by_word(key):
    assert is_secret(key) == (key in SECRET_KEYS)


def test_counts_and_switches_are_none():
    assert [holds_secret("tokens", value) for value in (512, [1, 2], True, None, "", "x", ["x"])] == [False] * 5 + [
        True
    ] * 2
    assert holds_secret("password", 1234) and not holds_secret("use_token", False)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://git@github.com/x", "git@github.com:a/b", "https://example.org:8080/a@2x.png", "mailto:me@example.org",
        "https://example.org/x?email=a@b.org&version=3", "the next token: easy", "max_tokens=512", "s3://bucket/a:b@c/d",
    ],
)  # fmt: skip
def test_texts_without_credentials_stay(text):
    assert redacted(text) == text and redacted_arguments([f"a={text}"]) == [f"a={text}"]


@pytest.mark.parametrize(
    "text",
    ["redis://:hunter2@h", "me:hunter2@proxy.org:3128", "mongodb+srv://me:a@hunter2@h/x", "A=1;AccountKey=hunter2==",
     "Authorization: Basic hunter2", "https://h/#access_token=hunter2", "jdbc:mysql://me:hunter2@h/x",
     "git+https://hunter2@h/x", "https://me:a/hunter2@h/x", "//me:hunter2@h"],
)  # fmt: skip
def test_credentials_are_found_in_texts_of_many_forms(text):
    shown = redacted({"a": [text], text: 1})
    assert "hunter2" not in json.dumps(shown) and redacted(shown) == shown and len(missing_secrets(shown)) >= 1
    assert "hunter2" not in "".join(
        redacted_arguments([f"--set=a={text}", f"a.b={text}", f'a={{"b": "{text}"}}', text])
    )
