#!/usr/bin/env bash
# server.sh nginx|redis SECONDS: a server under load on loopback. Prints what workload.c prints; the events are
# those that each request must have at least: two sends and two receives.
set -euo pipefail
kind=$1 seconds=$2
dir=$(mktemp -d)
port=$((20000 + $$ % 20000))
server=
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"; }
trap cleanup EXIT

case $kind in
nginx)
  mkdir "$dir/html"
  head -c 1024 /dev/zero | tr '\0' x >"$dir/html/index.html"
  cat >"$dir/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $dir/pid; error_log $dir/error.log; user root;
events { worker_connections 64; }
http { access_log off; keepalive_requests 1000000000; server { listen 127.0.0.1:$port; root $dir/html; } }
CONF
  nginx -p "$dir" -c "$dir/nginx.conf" & server=$! ;;
redis) redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$dir" >/dev/null & server=$! ;;
esac
for _ in $(seq 100); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.05
done

begin=$(date +%s%N)
case $kind in
nginx) rounds=$(wrk -t1 -c16 -d"${seconds}s" "http://127.0.0.1:$port/" | awk '/requests in/ { print $1 }') ;;
redis)
  rounds=$((seconds * 40000))
  redis-benchmark -p "$port" -c 8 -n "$rounds" -t set -q >/dev/null ;;
esac
wall=$(($(date +%s%N) - begin))
echo "{\"rounds\": $rounds, \"events\": $((rounds * 4)), \"wall_ns\": $wall, \"cpu_ns\": 0}"
