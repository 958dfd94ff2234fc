/* Python on libpython's shared library, as every embedding server has it: slower than Debian's python3 program. */
#include <Python.h>

int main(int argc, char **argv) {
    return Py_BytesMain(argc, argv);
}
