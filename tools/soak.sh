#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that can be tried, again and again for as long as asked; see tools/soak.py.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in
  *' --help '* | *' -h '*) ;;
  *) tools/deps.sh --tests --soak ;;
esac
exec python3 tools/soak.py "$@"
