"""An endpoint that serves a model folder and answers about prompts as vLLM's server does, for tests without vLLM."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class Handler(BaseHTTPRequestHandler):
    """Gives the log-probability of each token of a prompt, unless a fault is due."""

    def do_GET(self) -> None:
        server: Any = self.server
        cards = [{"id": name, "max_model_len": server.holds} for name in server.names]
        self.reply(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:  # one at a time: the model is not meant for several threads
            server.asked.append(body)
            if server.faults:
                self.reply(*server.faults.pop(0))
                return
            prompt = body["prompt"]
            ids = (
                prompt if isinstance(prompt, list) else server.tokenizer(prompt, add_special_tokens=False)["input_ids"]
            )
            if max(ids) >= server.lm.config.vocab_size:
                self.reply(400, {"error": {"message": f"Token id {max(ids)} is out of vocabulary"}})
                return
            with torch.no_grad():
                logp = server.lm(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        scored = [None] + [
            {str(token): {"logprob": float(logp[place, token]), "rank": 1, "decoded_token": ""}}
            for place, token in enumerate(ids[1:])
        ]
        self.reply(200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": scored}]})

    def reply(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of the model in a folder, on this machine: its `url`, what it was `asked`, the `names` of its models,
    how many tokens it `holds`, and `faults`, a status and a body each, which are its next answers."""
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lm, server.tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    server.asked, server.faults, server.lock = [], [], threading.Lock()
    server.names, server.holds = ["teacher"], 256
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
