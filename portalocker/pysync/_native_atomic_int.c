/* AtomicInt: a number that park_if() looks at. */
#include "_native.h"

struct word_object {
    OBJECT_HEAD
    _Atomic int64_t value;
};

static inline struct word_object *
as_word(PyObject *self)
{
    return (struct word_object *)self;
}

bool
as_int64(PyObject *number, int64_t *value)
{
    PyObject *index = PyNumber_Index(number);
    if (index == NULL) {
        return false;
    }
    *value = PyLong_AsLongLong(index);
    Py_DECREF(index);
    return *value != -1 || !PyErr_Occurred();
}

static PyObject *
word_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    int64_t value = 0;
    if ((keywords != NULL && PyDict_Size(keywords) != 0)
        || PyTuple_Size(arguments) > 1) {
        PyErr_SetString(PyExc_TypeError,
                        "AtomicInt() takes at most one argument, its value");
        return NULL;
    }
    if (PyTuple_Size(arguments) == 1
        && !as_int64(PyTuple_GetItem(arguments, 0), &value)) {
        return NULL;
    }
    PyObject *self = allocate(type);
    if (self != NULL) {
        atomic_init(&as_word(self)->value, value);
    }
    return self;
}

static PyObject *
word_load(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLongLong(atomic_load(&as_word(self)->value));
}

static PyObject *
word_int(PyObject *self)
{
    return word_load(self, NULL);
}

static PyObject *
word_store(PyObject *self, PyObject *number)
{
    int64_t value;
    if (!as_int64(number, &value)) {
        return NULL;
    }
    atomic_store(&as_word(self)->value, value);
    Py_RETURN_NONE;
}

static PyObject *
word_exchange(PyObject *self, PyObject *number)
{
    int64_t value;
    if (!as_int64(number, &value)) {
        return NULL;
    }
    return PyLong_FromLongLong(
        atomic_exchange(&as_word(self)->value, value));
}

static PyObject *
word_compare_exchange(PyObject *self, PyObject *const *arguments,
                      Py_ssize_t count)
{
    int64_t expected, desired;
    if (count != 2) {
        PyErr_SetString(
            PyExc_TypeError,
            "compare_exchange() takes two arguments, expected and desired");
        return NULL;
    }
    if (!as_int64(arguments[0], &expected)
        || !as_int64(arguments[1], &desired)) {
        return NULL;
    }
    return PyBool_FromLong(atomic_compare_exchange_strong(
        &as_word(self)->value, &expected, desired));
}

static bool
sum_fits(int64_t value, int64_t amount)
{
    return amount < 0 ? value >= INT64_MIN - amount
                      : value <= INT64_MAX - amount;
}

static PyObject *
word_fetch_add(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    int64_t amount = 1;
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError,
                        "fetch_add() takes at most one argument");
        return NULL;
    }
    if (count == 1 && !as_int64(arguments[0], &amount)) {
        return NULL;
    }
    int64_t value = atomic_load(&as_word(self)->value);
    do {
        if (!sum_fits(value, amount)) {
            PyErr_SetString(PyExc_OverflowError,
                            "cannot add: the sum needs more than 64 bits");
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&as_word(self)->value, &value,
                                           value + amount));
    return PyLong_FromLongLong(value);
}

static PyObject *
word_fetch_and(PyObject *self, PyObject *mask)
{
    int64_t bits;
    if (!as_int64(mask, &bits)) {
        return NULL;
    }
    return PyLong_FromLongLong(
        atomic_fetch_and(&as_word(self)->value, bits));
}

static PyObject *
word_fetch_or(PyObject *self, PyObject *mask)
{
    int64_t bits;
    if (!as_int64(mask, &bits)) {
        return NULL;
    }
    return PyLong_FromLongLong(atomic_fetch_or(&as_word(self)->value, bits));
}

static PyObject *
word_repr(PyObject *self)
{
    return PyUnicode_FromFormat("<portalocker.pysync.AtomicInt at %p: %lld>",
                                self,
                                (long long)atomic_load(&as_word(self)->value));
}

PyDoc_STRVAR(word_doc,
"AtomicInt(value=0, /)\n--\n\n"
"A signed number of 64 bits that changes in one step.");

static PyMethodDef word_methods[] = {
    {"load", word_load, METH_NOARGS,
     PyDoc_STR("load($self)\n--\n\nReturn the value.")},
    {"store", word_store, METH_O,
     PyDoc_STR("store($self, value, /)\n--\n\nReplace the value.")},
    {"exchange", word_exchange, METH_O,
     PyDoc_STR("exchange($self, value, /)\n--\n\n"
               "Replace the value, return the one before.")},
    {"compare_exchange",
     (PyCFunction)(void (*)(void))word_compare_exchange, METH_FASTCALL,
     PyDoc_STR("compare_exchange($self, expected, desired, /)\n--\n\n"
               "Replace the value if it is `expected`; say whether it was.")},
    {"fetch_add", (PyCFunction)(void (*)(void))word_fetch_add, METH_FASTCALL,
     PyDoc_STR("fetch_add($self, amount=1, /)\n--\n\n"
               "Add, return the value before.")},
    {"fetch_and", word_fetch_and, METH_O,
     PyDoc_STR("fetch_and($self, mask, /)\n--\n\n"
               "Keep the bits of `mask`, return the value before.")},
    {"fetch_or", word_fetch_or, METH_O,
     PyDoc_STR("fetch_or($self, mask, /)\n--\n\n"
               "Set the bits of `mask`, return the value before.")},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot word_slots[] = {
    {Py_tp_doc, (char *)word_doc},
    {Py_tp_new, word_new},
    {Py_tp_dealloc, free_object},
    {Py_tp_repr, word_repr},
    {Py_nb_int, word_int},
    {Py_tp_members, object_members},
    {Py_tp_methods, word_methods},
    {0, NULL},
};

static PyType_Spec word_spec = {
    .name = "portalocker.pysync.AtomicInt",
    .basicsize = sizeof(struct word_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = word_slots,
};

int64_t
atomic_int_value(PyObject *self)
{
    return atomic_load(&as_word(self)->value);
}

int
add_atomic_int(PyObject *module)
{
    return add_type(module, "AtomicInt", &word_spec,
                    &module_state(module)->word_type);
}
