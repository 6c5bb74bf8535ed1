"""Translate a column with a language model: any service that speaks OpenAI's chat completions, in batch.

    export OPENAI_API_KEY=...
    python examples/llm_batch.py in.csv out.csv --column text --to French --model gpt-4o-mini

Other services by --url or OPENAI_BASE_URL (llama.cpp, vLLM, Ollama and others speak the same protocol). Answers
are kept in a file beside the output: a run that was stopped, or in which some requests failed, is simply run again,
and asks only for what is missing. What fails for good is in OUT.rejects.csv, with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys

from aiopipe import Breaker, Fetch, Pipeline, Read, Retry, Write

DEFAULT = "https://api.openai.com/v1"


def translation(column: str, language: str, model: str, url: str, cache: str, requests: int) -> Fetch:
    """The stage: a request for each row, and two columns from its answer."""
    place = "{" + column + "}"
    return Fetch(
        f"{url.rstrip('/')}/chat/completions",
        headers={"Authorization": "Bearer {env:OPENAI_API_KEY}"},
        body={
            "model": model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": f"Translate into {language}. Answer with the translation alone."},
                {"role": "user", "content": place},
            ],
        },
        into={f"{column}_{language.lower()}": "$.choices[0].message.content", "tokens": "$.usage.completion_tokens?"},
        concurrency=requests,
        timeout="2m",
        retries=Retry(attempts=6, backoff="1s", max_backoff="60s"),
        breaker=Breaker(failures=20, wait="30s"),
        cache=cache,
    )


def pipeline(options: argparse.Namespace) -> Pipeline:
    """From the file, through the model, to the other file."""
    stage = translation(
        options.column, options.to, options.model, options.url, options.out + ".answers.db", options.requests
    )
    return Read(options.source) | stage | Write(options.out)


def main(argv: list[str] | None = None) -> int:
    """0: all rows translated; 3: some are in the rejects file."""
    parser = argparse.ArgumentParser(description="Translate a column of a CSV file with a language model.")
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--column", required=True)
    parser.add_argument("--to", default="French", metavar="LANGUAGE")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--url", default=os.environ.get("OPENAI_BASE_URL", DEFAULT))
    parser.add_argument("--requests", type=int, default=16, help="at once")
    options = parser.parse_args(argv)
    report = pipeline(options).run_sync(rejects=options.out + ".rejects.csv")
    print(report, file=sys.stderr)
    return 3 if report.rejected else 0


if __name__ == "__main__":
    sys.exit(main())
