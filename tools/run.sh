#!/usr/bin/env bash
# make run: from nothing to a served model. Every step does only what is missing, so that a second
# run starts in seconds. ONCE=1 stops after the first answer; then the exit code says whether that
# was a sensible one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly yoke=build/release/yoke
readonly url="http://127.0.0.1:8642"
readonly model=smollm2
readonly question="What is the capital of France? One word."
readonly expected="Paris"
server=""

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
if [ ! -t 1 ]; then step() { printf '\n==> %s\n' "$*"; }; fi

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

stop_server() {
  if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then wait "$server" || true; fi
  server=""
}

build() {
  local quiet=()
  if [ ! -t 1 ]; then quiet=(-- --quiet); fi
  cmake --preset release -Wno-dev >/dev/null
  cmake --build --preset release --target yoke "${quiet[@]}"
}

# Yoke answers while its models still load; a request waits for its model.
wait_until_it_listens() {
  for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || fail "yoke serve ended; its message is above."
    if "$yoke" ps --url "$url" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  fail "yoke serve did not begin to listen within 30 seconds."
}

first_answer() {
  local answer
  answer="$(mktemp)"
  printf '\n> %s\n' "$question"
  "$yoke" run "$model" --url "$url" --temperature 0 --max-tokens 64 "$question" | tee "$answer" || true
  local text
  text="$(cat "$answer")"
  rm -f "$answer"
  [[ "$text" == *"$expected"* ]] || fail "the answer does not contain '$expected'."
}

step "1/5 Debian packages (1 to 3 minutes when they are missing)"
bash tools/setup.sh build engine
step "2/5 Yoke (2 to 4 minutes the first time)"
build
step "3/5 llama.cpp (5 to 8 minutes the first time)"
python3 tools/get_llama_cpp.py
step "4/5 A small chat model, SmolLM2-135M-Instruct (98 MB)"
python3 tools/get_starter_model.py
step "5/5 Serving"
if "$yoke" ps --url "$url" >/dev/null 2>&1; then
  fail "a Yoke server runs already at $url: stop it first."
fi
trap stop_server EXIT
trap 'exit 143' TERM
"$yoke" serve --config examples/starter.toml &
server=$!
wait_until_it_listens
first_answer
if [ -n "${ONCE:-}" ]; then exit 0; fi

cat <<TEXT

Yoke serves $model at $url until Ctrl-C.

  Chat in another terminal:   $yoke run $model
  With curl:                  curl -N $url/v1/chat/completions -d '{"model": "$model", "stream": true,
                                "messages": [{"role": "user", "content": "Hello!"}]}'
  Any OpenAI client:          base_url $url/v1, any API key
TEXT
# Ctrl-C reaches the server too, which ends by itself; wait for that.
trap ':' INT
while kill -0 "$server" 2>/dev/null; do wait "$server" || true; done
server=""
