#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A file as a C string: embed.py NAME FILE >OUT.c"""
import sys

name, path = sys.argv[1:]
print(f"extern const char {name}[];\nconst char {name}[] =")
with open(path, encoding="utf-8") as file:
    for line in file:
        print('    "' + line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") + '\\n"')
print(";")
