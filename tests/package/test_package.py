#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The library as a distribution gets it: what it exports, what its headers need, what pkg-config says. Installed
into a prefix of its own; the example is compiled against that, as C11 and as C++, shared and static, and run
against a real node."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

LIBDIR = "lib"  # of the build, as it was configured
SOURCE, BUILD = os.environ["LEAT_SOURCE"], os.environ["LEAT_BUILD"]
sys.path.insert(0, os.path.join(SOURCE, "tests", "system"))
from cluster import Cluster, Failure, check  # noqa: E402


def run(*arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, **options)
    check(done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def declared():
    """The functions of include/leat: LEAT_API ones, and those marked by hand."""
    names = set()
    for header in ("leat.h", "error.h"):
        with open(os.path.join(SOURCE, "include", "leat", header), encoding="utf-8") as text:
            code = re.sub(r"/\*.*?\*/", "", text.read(), flags=re.S)
        code = re.sub(r"^#define.*$", "", code, flags=re.M)
        for match in re.finditer(r'(?:LEAT_API|visibility\("default"\)\)\))\s[^;(]*?\b(leat_\w+)\(', code):
            names.add(match.group(1))
    check(len(names) > 40 and {"leat_attach", "leat_error_text", "leat_tail"} <= names, f"found {sorted(names)}")
    return names


def exported(prefix):
    lines = run("nm", "-D", "--defined-only", os.path.join(prefix, LIBDIR, "libleat.so.0")).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[1] != "A"}


def test_exports(prefix):
    want, got = declared(), exported(prefix)
    check(want == got, f"declared and not exported: {sorted(want - got)}; the other way: {sorted(got - want)}")
    dynamic = run("readelf", "-d", os.path.join(prefix, LIBDIR, "libleat.so"))
    check("[libleat.so.0]" in dynamic, f"soname: {dynamic}")


def test_map_names_every_function_once(_):
    with open(os.path.join(SOURCE, "client", "libleat.map"), encoding="utf-8") as text:
        names = re.findall(r"\bleat_\w+(?=;)", text.read())
    check(sorted(names) == sorted(declared()), f"the map and the headers differ: {sorted(set(names) ^ declared())}")


def environment(prefix):
    return {**os.environ, "PKG_CONFIG_PATH": os.path.join(prefix, LIBDIR, "pkgconfig"),
            "LD_LIBRARY_PATH": os.path.join(prefix, LIBDIR)}


def compile_example(prefix, name, compiler, *flags, static=False):
    env = environment(prefix)
    more = ["--static"] if static else []
    words = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", *more, "leat", env=env).split()
    if static:
        words = ["-l:libleat.a" if word == "-lleat" else word for word in words]
    out = os.path.join(prefix, name)
    run(*compiler, *flags, "-Wall", "-Wextra", "-Werror", "-o", out, os.path.join(SOURCE, "examples", "hello.c"), *words)
    return out


def test_headers_alone(prefix):
    for header in ("leat.h", "error.h"):
        for compiler in (["cc", "-std=c11", "-xc"], ["c++", "-std=c++11", "-xc++"]):
            run(*compiler, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-include", f"leat/{header}",
                "-I", os.path.join(prefix, "include"), os.devnull)


def test_example(prefix):
    programs = [compile_example(prefix, "hello-c", ["cc"], "-std=c11", "-pedantic"),
                compile_example(prefix, "hello-c++", ["c++", "-xc++"], "-std=c++11"),
                compile_example(prefix, "hello-static", ["cc"], "-std=c11", static=True)]
    needed = run("readelf", "-d", programs[2])
    check("libleat.so" not in needed, "the static one needs the shared library")
    cluster = Cluster(count=1)
    try:
        node = cluster.start()
        for offset, program in enumerate(programs):
            out = run(program, node.socket, env=environment(prefix), timeout=60)
            check(out == f"appended at offset {offset}\nread back: hello\n", f"{program}: {out}")
        done = subprocess.run([programs[0], os.path.join(cluster.dir, "nowhere")], env=environment(prefix),
                              capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 1 and done.stderr.startswith("hello: attach: "), f"without a node: {done}")
    finally:
        cluster.close()


def test_installed(prefix):
    for name in ("bin/leat", "bin/leatd", "include/leat/leat.h", f"{LIBDIR}/libleat.a",
                 "share/bash-completion/completions/leat", "share/man/man1/leat.1", "share/man/man8/leatd.8",
                 "share/man/man5/leat.yaml.5", "share/man/man3/libleat.3"):
        check(os.path.exists(os.path.join(prefix, name)), f"{name} is not installed")
    check(run("pkg-config", "--modversion", "leat", env=environment(prefix)).strip(), "no version")


def main():
    tests = [test_installed, test_exports, test_map_names_every_function_once, test_headers_alone, test_example]
    prefix = tempfile.mkdtemp(prefix="leat-prefix-")
    failed = False
    print(f"1..{len(tests)}", flush=True)
    try:
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", os.path.join(prefix, "root"))
        options = {o["name"]: o["value"] for o in json.loads(run("meson", "introspect", BUILD, "--buildoptions"))}
        global LIBDIR
        LIBDIR = options["libdir"]
        home = os.path.join(prefix, "moved")  # where PKG_CONFIG_PATH and a prefix point to
        shutil.move(os.path.join(prefix, "root") + options["prefix"], home)
        for number, test in enumerate(tests, 1):
            try:
                test(home)
                print(f"ok {number} - {test.__name__[5:]}", flush=True)
            except (Failure, OSError, subprocess.SubprocessError) as error:
                failed = True
                print(f"not ok {number} - {test.__name__[5:]}", flush=True)
                for line in str(error).splitlines():
                    print(f"# {line}", flush=True)
    finally:
        shutil.rmtree(prefix, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
