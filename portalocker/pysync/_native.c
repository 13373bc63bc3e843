/* portalocker.pysync._native: the primitives between threads, in C11. */
#include "_native.h"

/* Each finds in the module's state what those before it have put there. */
static int (*const steps[])(PyObject *module) = {
    add_context_descriptor_type,
    add_timed,
    add_mutexes,
    add_recursive_mutex,
    add_rw_mutex,
    add_event,
    add_once,
    add_seq_lock,
    add_sections,
    add_atomic_int,
    add_parking,
};

static int
execute(PyObject *module)
{
    int failed = time_initialize() < 0 || lot_initialize() < 0;
    for (size_t n = 0; !failed && n < sizeof(steps) / sizeof(*steps); n++) {
        failed = steps[n](module) < 0;
    }
    return failed ? -1 : 0;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = module_state(module);
    PyObject **member = (PyObject **)state;
    for (size_t n = 0; n < sizeof(*state) / sizeof(*member); n++) {
        Py_VISIT(member[n]);
    }
    return 0;
}

static int
clear(PyObject *module)
{
    struct module_state *state = module_state(module);
    PyObject **member = (PyObject **)state;
    for (size_t n = 0; n < sizeof(*state) / sizeof(*member); n++) {
        Py_CLEAR(member[n]);
    }
    return 0;
}

static void
free_module(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "portalocker.pysync._native",
    .m_doc = "The primitives of portalocker.pysync, in C.",
    .m_size = sizeof(struct module_state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
