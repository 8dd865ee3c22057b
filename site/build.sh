#!/usr/bin/env bash
# Builds docs/ as a static site with search, in target/site:  site/build.sh
# SITE_BASE=/roomcast/ where it is not served at the root of its host.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
stamp=node_modules/.lockfile
current=$(cat package-lock.json package.json | sha256sum)
if [[ ! -f $stamp || $(<"$stamp") != "$current" ]]; then
  npm ci --no-audit --no-fund
  printf '%s\n' "$current" >"$stamp"
fi
npm run --silent build
