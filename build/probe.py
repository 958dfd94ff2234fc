"""Is this Python one that the module can be built with? Prints KEY=VALUE lines, or what is wrong and how to mend it.

Run by build.rs and by script/setup.sh, with any Python that exists: keep it readable for old ones.
"""
import os
import sys
import sysconfig

OLDEST = (3, 9)
SYSTEM_DIRS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
base_prefix = getattr(sys, "base_prefix", sys.prefix)


def fail(*lines):
    sys.stderr.write("".join(line + "\n" for line in lines))
    sys.exit(1)


def on_debian():
    """Whether this is the distribution's own Python, so that apt has the missing piece."""
    return os.path.exists("/etc/debian_version") and base_prefix == "/usr"


def remedy(package, otherwise):
    """What to install: Debian's package for Debian's Python (on stdout for setup.sh), else what its maker has to do."""
    if not on_debian():
        return otherwise
    print("package=" + package)
    return "install it with: apt-get install " + package


def library_dir(library):
    """Where the library lies that the linker asks for. A Python that was moved has its builder's LIBDIR: look around."""
    config = sysconfig.get_config_var
    for folder in (config("LIBDIR"), os.path.join(base_prefix, "lib"), config("LIBPL")):
        if folder and os.path.exists(os.path.join(folder, library)):
            return folder
    return None


version = "%d.%d.%d" % sys.version_info[:3]
short = "%d.%d" % sys.version_info[:2]
me = "%s (%s %s)" % (sys.executable, getattr(getattr(sys, "implementation", None), "name", "python"), version)

if getattr(getattr(sys, "implementation", None), "name", "") != "cpython" or sys.version_info[:2] < OLDEST:
    fail(
        "%s: nginx-wsgi needs CPython %d.%d or newer" % ((me,) + OLDEST),
        "name another one: make PYTHON=/path/to/python3",
    )

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    fail(
        "%s: a free-threaded Python, which nginx-wsgi does not support yet" % me,
        "name one with a GIL: make PYTHON=/path/to/python3",
    )

abi = short + getattr(sys, "abiflags", "")
library = "libpython%s.so" % abi
folder = library_dir(library)
package = "libpython%s-dev" % short
if folder is None:
    static = "" if sysconfig.get_config_var("Py_ENABLE_SHARED") else ": this Python was built with a static library only"
    fail(
        "%s: %s is missing%s" % (me, library, static),
        remedy(package, "the module needs Python as a shared library: build it with ./configure --enable-shared"),
    )

header = os.path.join(sysconfig.get_path("include"), "Python.h")
if not os.path.exists(header):
    fail(
        "%s: the header %s is missing" % (me, header),
        remedy(package, "install the development files of this Python"),
    )

multiarch = sysconfig.get_config_var("MULTIARCH") or ""
system = SYSTEM_DIRS + tuple(os.path.join(each, multiarch) for each in SYSTEM_DIRS if multiarch)
print("version=" + version)
print("executable=" + os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
print("stdlib=" + sysconfig.get_path("stdlib"))
print("libdir=" + folder)
loaded_from = os.path.dirname(os.path.realpath(os.path.join(folder, library)))
print("rpath=" + ("" if loaded_from in system else loaded_from))
