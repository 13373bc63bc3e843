/* What all our types are made of: arguments, objects, `with`, timed(). */
#include "_native.h"

/* -- arguments ---------------------------------------------------------------- */

static Py_ssize_t
index_of(const char *const *names, Py_ssize_t most, PyObject *name)
{
    Py_ssize_t n = 0;
    while (n < most && PyUnicode_CompareWithASCIIString(name, names[n]) != 0) {
        n++;
    }
    return n;
}

bool
take_arguments(const char *function, const char *const *names,
               Py_ssize_t required, PyObject *const *arguments,
               Py_ssize_t count, PyObject *keywords, PyObject **values)
{
    Py_ssize_t most = 0;
    for (; names[most] != NULL; most++) {
        values[most] = most < count ? arguments[most] : NULL;
    }
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_Size(keywords);
    if (count > most) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %zd arguments (%zd given)", function,
                     most, count);
        return false;
    }
    for (Py_ssize_t n = 0; n < named; n++) {
        PyObject *name = PyTuple_GetItem(keywords, n);
        Py_ssize_t which = index_of(names, most, name);
        if (which == most || values[which] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         which == most ? "%s() has no argument named '%U'"
                                       : "%s() was given '%U' twice",
                         function, name);
            return false;
        }
        values[which] = arguments[count + n];
    }
    for (Py_ssize_t n = 0; n < required; n++) {
        if (values[n] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() needs '%s'", function,
                         names[n]);
            return false;
        }
    }
    return true;
}

/* -- objects ------------------------------------------------------------------ */

PyMemberDef object_members[] = {
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(struct object, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyMemberDef context_members[] = {
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(struct object, weak_references), READONLY, NULL},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct object, call),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* One for all: what is freed is made into something else, anywhere. */
static const char allocator;

PyObject *
allocate(PyTypeObject *type)
{
    PyObject *self = PyType_GenericAlloc(type, 0);
    HAPPENS_AFTER(&allocator);
    return self;
}

PyObject *
new_object(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    if (PyTuple_Size(arguments) != 0
        || (keywords != NULL && PyDict_Size(keywords) != 0)) {
        PyErr_Format(PyExc_TypeError, "%R takes no arguments", type);
        return NULL;
    }
    return allocate(type);
}

PyObject *
new_context(PyTypeObject *type, PyObject *arguments, PyObject *keywords,
            vectorcallfunc call)
{
    PyObject *self = new_object(type, arguments, keywords);
    if (self != NULL) {
        ((struct object *)self)->call = call;
    }
    return self;
}

void
free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (((struct object *)self)->weak_references != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    HAPPENS_BEFORE(&allocator);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

PyObject *
refuse_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *name = PyType_GetQualName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "cannot copy portalocker.pysync.%U: it is one lock, and "
                     "a copy would be another",
                     name);
        Py_DECREF(name);
    }
    return NULL;
}

/* -- contexts ------------------------------------------------------------------- */

/* What __enter__ and __exit__ are in the types whose objects `with` calls
 * directly: each object is its own bound method, so that none is made. */
struct context {
    PyObject_HEAD
    PyTypeObject *type; /* of the objects; borrowed from who has us */
    bool is_exit;
};

int
context_call(size_t flagged_count, PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flagged_count);
    if ((count == ENTERS || count == EXITS)
        && (keywords == NULL || PyTuple_Size(keywords) == 0)) {
        return (int)count;
    }
    PyErr_SetString(PyExc_TypeError,
                    "this object is called by `with` only, with no or with "
                    "three arguments");
    return -1;
}

static PyObject *
context_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return Py_NewRef(object == NULL ? self : object);
}

/* type(lock).__enter__(lock), type(lock).__exit__(lock, ...) */
static PyObject *
context_of_type(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    struct context *self = (struct context *)object;
    Py_ssize_t count = PyTuple_Size(arguments);
    PyObject *lock = count > 0 ? PyTuple_GetItem(arguments, 0) : NULL;
    if (lock == NULL || Py_TYPE(lock) != self->type
        || (keywords != NULL && PyDict_Size(keywords) != 0)
        || (!self->is_exit && count != 1)) {
        PyErr_Format(PyExc_TypeError, "%s() of %R does not take these",
                     self->is_exit ? "__exit__" : "__enter__", self->type);
        return NULL;
    }
    return self->is_exit
               ? PyObject_CallFunctionObjArgs(lock, Py_None, Py_None, Py_None,
                                              NULL)
               : PyObject_CallNoArgs(lock);
}

static void
context_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyType_Slot context_slots[] = {
    {Py_tp_dealloc, context_dealloc},
    {Py_tp_descr_get, context_get},
    {Py_tp_call, context_of_type},
    {0, NULL},
};

static PyType_Spec context_spec = {
    .name = "portalocker.pysync.context",
    .basicsize = sizeof(struct context),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = context_slots,
};

static int
add_context(PyTypeObject *context_type, PyTypeObject *type, const char *name,
            bool is_exit)
{
    struct context *context
        = (struct context *)PyType_GenericAlloc(context_type, 0);
    if (context == NULL) {
        return -1;
    }
    context->type = type;
    context->is_exit = is_exit;
    int failed = PyObject_SetAttrString((PyObject *)type, name,
                                        (PyObject *)context);
    Py_DECREF(context);
    return failed;
}

int
add_type(PyObject *module, const char *name, PyType_Spec *spec,
         PyTypeObject **keep)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int failed
        = name == NULL ? 0 : PyModule_AddObjectRef(module, name, type);
    if (keep != NULL) {
        *keep = (PyTypeObject *)Py_NewRef(type);
    }
    Py_DECREF(type);
    return failed;
}

int
add_context_type(PyObject *module, const char *name, PyType_Spec *spec,
                 PyTypeObject **keep)
{
    PyTypeObject *context_type = module_state(module)->context_type;
    PyTypeObject *type = NULL;
    int failed = add_type(module, name, spec, &type) < 0
                 || add_context(context_type, type, "__enter__", false) < 0
                 || add_context(context_type, type, "__exit__", true) < 0;
    if (keep != NULL) {
        *keep = (PyTypeObject *)Py_XNewRef((PyObject *)type);
    }
    Py_XDECREF((PyObject *)type);
    return failed ? -1 : 0;
}

/* -- Timed ---------------------------------------------------------------------- */

/* lock.timed(seconds): waits no longer than that. */
struct timed {
    OBJECT_HEAD
    PyObject *lock;
    const struct lock_verbs *verbs;
    PyObject *seconds;
};

static bool
enter_timed(struct timed *self)
{
    nanoseconds deadline;
    if (!deadline_of_timeout(self->seconds, &deadline)) {
        return false;
    }
    enum outcome outcome = self->verbs->acquire(self->lock, deadline);
    if (outcome == TIMED_OUT) {
        char *seconds = PyOS_double_to_string(
            PyFloat_AsDouble(self->seconds), 'g', 6, 0, NULL);
        if (seconds != NULL) {
            PyErr_Format(PyExc_TimeoutError,
                         "cannot lock %R: still held after %s s", self->lock,
                         seconds);
            PyMem_Free(seconds);
        }
    }
    return outcome == DONE;
}

static PyObject *
timed_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
           size_t count, PyObject *keywords)
{
    struct timed *self = (struct timed *)object;
    switch (context_call(count, keywords)) {
    case ENTERS:
        return enter_timed(self) ? Py_NewRef(Py_True) : NULL;
    case EXITS:
        return none_if(self->verbs->release(self->lock));
    default:
        return NULL;
    }
}

PyObject *
new_timed(PyTypeObject *defining, PyObject *lock,
          const struct lock_verbs *verbs, PyObject *const *arguments,
          Py_ssize_t count, PyObject *keywords)
{
    static const char *const names[] = {"seconds", NULL};
    PyObject *given;
    struct module_state *state = PyType_GetModuleState(defining);
    if (state == NULL
        || !take_arguments("timed", names, 1, arguments, count, keywords,
                           &given)) {
        return NULL;
    }
    double seconds = PyFloat_AsDouble(given);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError,
                     "cannot wait for %R seconds: not a number from 0 up",
                     given);
        return NULL;
    }
    struct timed *self
        = (struct timed *)allocate(state->timed_type);
    if (self != NULL) {
        self->call = timed_call;
        self->lock = Py_NewRef(lock);
        self->verbs = verbs;
        self->seconds = PyFloat_FromDouble(seconds);
    }
    if (self != NULL && self->seconds == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
timed_dealloc(PyObject *object)
{
    struct timed *self = (struct timed *)object;
    Py_CLEAR(self->lock);
    Py_CLEAR(self->seconds);
    free_object(object);
}

PyDoc_STRVAR(timed_doc,
"One block that waits for its lock no longer than it may: lock.timed().");

static PyType_Slot timed_slots[] = {
    {Py_tp_doc, (char *)timed_doc},
    {Py_tp_dealloc, timed_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_members, context_members},
    {0, NULL},
};

static PyType_Spec timed_spec = {
    .name = "portalocker.pysync.Timed",
    .basicsize = sizeof(struct timed),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = timed_slots,
};

int
add_context_descriptor_type(PyObject *module)
{
    return add_type(module, NULL, &context_spec,
                    &module_state(module)->context_type);
}

int
add_timed(PyObject *module)
{
    return add_context_type(module, "Timed", &timed_spec,
                            &module_state(module)->timed_type);
}
