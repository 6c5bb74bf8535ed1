"""The examples that ask services: translation by a language model, enrichment every night."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aiopipe.cli import main
from tests.hostile import RESET, Asked, Reply, Server, error, ok

ROOT = Path(__file__).parents[1]


class Model:
    """A service that speaks OpenAI's chat completions, and takes offence like the real one."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.trouble = 0

    def __call__(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != "Bearer sk-test":
            return error(
                401, json.dumps({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
            )
        if (asked.method, asked.path) != ("POST", "/v1/chat/completions"):
            return error(404)
        try:
            request = json.loads(asked.body)
            system, user = request["messages"]
            assert (system["role"], user["role"], request["model"]) == ("system", "user", "tiny")
            assert set(request) <= {"model", "messages", "temperature"} and "French" in system["content"]
        except (ValueError, KeyError, AssertionError):
            return error(400, json.dumps({"error": {"message": "invalid request"}}))
        text = user["content"]
        if text in self.down:
            return error(400, json.dumps({"error": {"message": "content policy"}}))
        self.trouble += 1
        if self.trouble % 4 == 1:
            return [error(429, Retry_After="0"), error(500), RESET][self.trouble // 4 % 3]
        return ok(
            {
                "id": f"chatcmpl-{asked.number}",
                "object": "chat.completion",
                "model": "tiny",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": f"«{text}»"}, "finish_reason": "stop"}
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
            }
        )


@pytest.fixture
def llm_batch(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import llm_batch

    yield llm_batch
    sys.modules.pop("llm_batch", None)


def test_a_column_is_translated_in_batch_and_another_run_asks_for_the_rest(
    llm_batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    texts = [f'Line {i}: say "hello", {{name}}\n\\ü' for i in range(30)]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([i, t] for i, t in enumerate(texts))])
    model = Model()
    model.down = {texts[7]}
    with Server(model) as server:
        arguments = [str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), "--column", "text", "--model", "tiny"]
        arguments += ["--url", f"{server.url}/v1"]
        assert llm_batch.main(arguments) == 3
        rejected = (tmp_path / "out.csv.rejects.csv").read_text()
        assert "HTTP 400" in rejected and "content policy" in rejected
        first = len(server.asked)
        model.down = set()
        assert llm_batch.main(arguments) == 0
        assert {json.loads(a.body)["messages"][1]["content"] for a in server.asked[first:]} == {texts[7]}
        sent: dict[str, set[str]] = {}
        for asked in server.asked:
            sent.setdefault(json.loads(asked.body)["messages"][1]["content"], set()).add(
                asked.headers["idempotency-key"]
            )
        assert set(map(len, sent.values())) == {1}
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["text"], r["text_french"], r["tokens"]) for r in rows] == [(t, f"«{t}»", "3") for t in texts]
    assert "sk-test" not in rejected + capsys.readouterr().err


def test_the_nightly_enrichment_asks_again_only_for_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    broken = True

    def script(asked: Asked) -> Reply:
        return error(404) if broken and asked.name == "HA" else ok({"address": {"city": asked.name}})

    with Server(script) as server:
        monkeypatch.setenv("SERVICE", server.url)
        assert main(["run", str(ROOT / "examples/nightly.toml")]) == 3
        broken = False
        known = len(server.asked)
        main(["run", str(ROOT / "examples/nightly.toml")])  # the file is finished
        assert len(server.asked) == known
        assert main(["run", "--force", str(ROOT / "examples/nightly.toml")]) == 0
        asked = Counter(a.name for a in server.asked)
    assert asked.pop("HA") == 2 and set(asked.values()) == {1}
    lines = (tmp_path / "nightly/out/airlines.csv").read_text().splitlines()
    assert lines[0] == "carrier,name,city" and len(lines) == 17
    assert all(line.partition(",")[0] == line.rpartition(",")[2] for line in lines[1:])
