#!/bin/sh
# Builds the demo conference's page into OUTDIR (default: web/dist). Needs npm (Node.js 18 or newer).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-}
[ -z "$out" ] || { mkdir -p "$out"; out=$(cd "$out" && pwd); }
command -v npm >/dev/null || { echo "web/build.sh: npm is missing: install Node.js 18 or newer" >&2; exit 1; }
cd "$here"
rm -rf dist
npm ci --loglevel=error --no-progress
npm run --silent build
[ -z "$out" ] || cp -R dist/. "$out/"
