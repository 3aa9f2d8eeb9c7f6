#!/bin/sh
# A call on each wire with curl. RELAY_URL is the agent or the hub's public entrance, RELAY_KEY its key or an app token.
set -eu
url=${RELAY_URL:-http://127.0.0.1:8787}
model=${RELAY_MODEL:-gpt-5-mini}

ask() {
    echo "$1"
    curl --silent --show-error --fail-with-body --no-buffer "$url$1" \
        --header "authorization: Bearer $RELAY_KEY" --header 'content-type: application/json' ${2:+--data "$2"}
    echo
}

hello='[{"role": "user", "content": "Say hello."}]'
ask /v1/models
ask /v1/responses "{\"model\": \"$model\", \"input\": \"Say hello.\"}"
ask /v1/chat/completions "{\"model\": \"$model\", \"messages\": $hello, \"stream\": true}"
ask /v1/messages "{\"model\": \"${RELAY_CLAUDE:-claude-sonnet-5-5}\", \"max_tokens\": 100, \"messages\": $hello}"
ask "/v1beta/models/${RELAY_GEMINI:-gemini-3.8-flash}:generateContent" '{"contents": [{"parts": [{"text": "Say hello."}]}]}'
# A project's name stands on the row of its calls: relay-hub usage --project web
ask /api/web/v1/responses "{\"model\": \"$model\", \"input\": \"Say hello.\"}"
