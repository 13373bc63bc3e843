/* CriticalSection: mutexes that are given back while their thread sleeps.
 *
 * After PEP 703. Each thread has a stack of sections. Whoever has to sleep, in
 * whatever lock of this package, unlocks the mutexes of all its sections
 * first, and locks those of the innermost again afterwards: so nobody sleeps
 * with a mutex that the other one wants. Mutexes are taken in the order of
 * their addresses.
 */
#include "_native.h"

#include <stdlib.h>
#include <string.h>

/* state     | meaning
 * IDLE      | not begun
 * TAKING    | some thread is beginning it, and alone may touch it
 * HELD      | on the stack, all its mutexes are locked
 * SUSPENDED | on the stack, none is
 * NESTED    | begun, not on the stack: the innermost holds all it wants */
enum section_state { IDLE, TAKING, HELD, SUSPENDED, NESTED };

enum { INLINE_MUTEXES = 2 };

/* Sorted, each once. */
struct mutex_set {
    Py_ssize_t count;
    struct mutex_object **mutexes; /* `few`, or on the heap */
    struct mutex_object *few[INLINE_MUTEXES];
};

struct section {
    OBJECT_HEAD
    /* from IDLE to TAKING by compare-exchange, which acquires; back to IDLE
     * is a release: the next thread finds all that this one left. In between
     * it changes in its own thread only, and others may look */
    _Atomic(enum section_state) state;
    /* that began it, else NULL; borrowed. Others only compare it to theirs */
    struct cs_thread *_Atomic thread;
    struct section *outer;    /* below it on the stack; owned */
    struct mutex_set own;       /* for `with`: the constructor's */
    struct mutex_set given;     /* to begin(), for that once */
    struct mutex_set *wanted;   /* one of these: what it began with */
};

/* The stack of one thread. */
struct cs_thread {
    OBJECT_HEAD
    struct section *top; /* owned */
};

static inline enum section_state
state_of(struct section *section)
{
    return atomic_load_explicit(&section->state, memory_order_relaxed);
}

static inline void
set_state(struct section *section, enum section_state state)
{
    atomic_store_explicit(&section->state, state, memory_order_release);
}

static inline struct cs_thread *
thread_of(struct section *section)
{
    return atomic_load_explicit(&section->thread, memory_order_relaxed);
}

static inline void
set_thread(struct section *section, struct cs_thread *thread)
{
    atomic_store_explicit(&section->thread, thread, memory_order_relaxed);
}

/* -- threads ------------------------------------------------------------------ */

static const char THREAD_KEY[] = "portalocker.pysync.CSThread";

/* What the thread's dict has, found before. A thread that serves several
 * interpreters has a state in each, and their numbers are each interpreter's
 * own. */
static _Thread_local struct {
    int64_t interpreter;
    uint64_t state;
    struct cs_thread *thread; /* borrowed from the dict */
} found;

static bool
is_found(PyThreadState *state)
{
    return found.thread != NULL && found.state == PyThreadState_GetID(state)
           && found.interpreter
                  == PyInterpreterState_GetID(
                      PyThreadState_GetInterpreter(state));
}

static struct cs_thread *
note_found(PyThreadState *state, struct cs_thread *thread)
{
    found.state = PyThreadState_GetID(state);
    found.interpreter
        = PyInterpreterState_GetID(PyThreadState_GetInterpreter(state));
    return found.thread = thread;
}

/* The dict has a capsule, which nobody else can keep: when it goes, with the
 * thread, whatever the thread's last destructors do finds nothing here. */
static void
forget_thread(PyObject *capsule)
{
    PyObject *thread = PyCapsule_GetPointer(capsule, THREAD_KEY);
    if ((PyObject *)found.thread == thread) {
        found.thread = NULL;
    }
    Py_XDECREF(thread);
}

/* Borrowed; NULL where the thread has none yet. Keeps a raised exception. */
static struct cs_thread *
find_thread(void)
{
    PyThreadState *state = PyThreadState_Get();
    if (!is_found(state)) {
        PyObject *error, *value, *traceback;
        PyErr_Fetch(&error, &value, &traceback);
        PyObject *dict = PyThreadState_GetDict();
        PyObject *capsule
            = dict == NULL ? NULL : PyDict_GetItemString(dict, THREAD_KEY);
        note_found(state, capsule == NULL
                              ? NULL
                              : PyCapsule_GetPointer(capsule, THREAD_KEY));
        PyErr_Restore(error, value, traceback);
    }
    return found.thread;
}

/* Borrowed. */
static struct cs_thread *
need_thread(struct module_state *state)
{
    struct cs_thread *thread = find_thread();
    if (thread != NULL) {
        return thread;
    }
    PyObject *dict = PyThreadState_GetDict();
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot begin a section: the thread has no state");
        return NULL;
    }
    thread = (struct cs_thread *)allocate(state->thread_type);
    if (thread == NULL) {
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(thread, THREAD_KEY, forget_thread);
    if (capsule == NULL) {
        Py_DECREF(thread);
        return NULL;
    }
    int failed = PyDict_SetItemString(dict, THREAD_KEY, capsule);
    Py_DECREF(capsule);
    return failed ? NULL : note_found(PyThreadState_Get(), thread);
}

/* -- mutexes ------------------------------------------------------------------ */

static bool
unlock_all(struct mutex_set *set, Py_ssize_t count)
{
    bool is_done = true;
    while (count-- > 0) {
        is_done = mutex_unlock(&set->mutexes[count]->mutex) && is_done;
    }
    return is_done;
}

static void
note_holder(struct mutex_set *set)
{
    unsigned long me = PyThread_get_thread_ident();
    for (Py_ssize_t n = 0; n < set->count; n++) {
        atomic_store_explicit(&set->mutexes[n]->holder, me,
                              memory_order_relaxed);
    }
}

/* Lock all that are free; false, and none, if one is not. */
static bool
try_all(struct mutex_set *set)
{
    for (Py_ssize_t n = 0; n < set->count; n++) {
        if (!mutex_try(&set->mutexes[n]->mutex)) {
            unlock_all(set, n);
            return false;
        }
    }
    return true;
}

/* Lock all, one by one; false, and none, with an exception. */
static bool
lock_all(struct mutex_set *set)
{
    for (Py_ssize_t n = 0; n < set->count; n++) {
        struct mutex_object *mutex = set->mutexes[n];
        if (mutex_lock(&mutex->mutex, (PyObject *)mutex, NEVER) != DONE) {
            PyObject *error, *value, *traceback;
            PyErr_Fetch(&error, &value, &traceback);
            unlock_all(set, n);
            PyErr_Restore(error, value, traceback);
            return false;
        }
    }
    return true;
}

/* Lock `mutex`, whatever happens: the code that goes on relies on it. The
 * first exception that came meanwhile is put into `error`. */
static void
lock_for_sure(struct mutex_object *mutex, PyObject *error[3])
{
    while (mutex_lock(&mutex->mutex, (PyObject *)mutex, NEVER) != DONE) {
        PyObject *raised[3];
        PyErr_Fetch(&raised[0], &raised[1], &raised[2]);
        bool is_first = error[0] == NULL;
        for (int n = 0; n < 3; n++) {
            if (is_first) {
                error[n] = raised[n];
            }
            else {
                Py_XDECREF(raised[n]);
            }
        }
        /* where there was no memory for a waiter, others have to run */
        Py_BEGIN_ALLOW_THREADS
        Py_END_ALLOW_THREADS
    }
}

struct cs_thread *
sections_suspend(void)
{
    struct cs_thread *thread = find_thread();
    if (thread == NULL) {
        return NULL;
    }
    struct section *section = thread->top;
    for (; section != NULL && state_of(section) != SUSPENDED;
         section = section->outer) {
        if (state_of(section) == HELD) {
            set_state(section, SUSPENDED);
            if (!unlock_all(section->wanted, section->wanted->count)) {
                /* somebody else unlocked it: nothing is ours any more */
                PyErr_Clear();
            }
        }
    }
    return thread;
}

bool
sections_resume(struct cs_thread *thread)
{
    struct section *section = thread->top;
    if (section == NULL || state_of(section) != SUSPENDED) {
        return true;
    }
    PyObject *error[3];
    PyErr_Fetch(&error[0], &error[1], &error[2]);
    bool is_new = error[0] == NULL;
    set_state(section, TAKING);
    for (Py_ssize_t n = 0; n < section->wanted->count; n++) {
        lock_for_sure(section->wanted->mutexes[n], error);
    }
    note_holder(section->wanted);
    set_state(section, HELD);
    bool has_raised = is_new && error[0] != NULL;
    PyErr_Restore(error[0], error[1], error[2]);
    return !has_raised;
}

/* -- the stack ------------------------------------------------------------------ */

static void
push(struct cs_thread *thread, struct section *section)
{
    set_thread(section, thread);
    section->outer = thread->top;
    thread->top = (struct section *)Py_NewRef((PyObject *)section);
}

static void
pop(struct cs_thread *thread)
{
    struct section *section = thread->top;
    thread->top = section->outer;
    section->outer = NULL;
    set_thread(section, NULL);
    set_state(section, IDLE);
    Py_DECREF(section);
}

static bool
holds_all(struct section *top, const struct mutex_set *set)
{
    if (top == NULL || state_of(top) != HELD || set->count == 0) {
        return false;
    }
    Py_ssize_t found_ones = 0;
    for (Py_ssize_t n = 0; n < top->wanted->count; n++) {
        found_ones += found_ones < set->count
                      && top->wanted->mutexes[n] == set->mutexes[found_ones];
    }
    return found_ones == set->count;
}

/* It is TAKING. */
static bool
begin(struct section *self, struct cs_thread *thread, struct mutex_set *set)
{
    if (holds_all(thread->top, set)) {
        set_thread(self, thread);
        set_state(self, NESTED);
        return true;
    }
    self->wanted = set;
    if (set->count == 0) {
        sections_suspend();
        push(thread, self);
    }
    else if (try_all(set)) {
        push(thread, self);
    }
    else {
        sections_suspend();
        push(thread, self);
        if (!lock_all(set)) {
            pop(thread);
            sections_resume(thread);
            return false;
        }
    }
    note_holder(set);
    set_state(self, HELD);
    return true;
}

static bool
end(struct section *self)
{
    struct cs_thread *thread = find_thread();
    if (thread == NULL || thread_of(self) != thread
        || (state_of(self) != NESTED && thread->top != self)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot end: this is not the innermost section of "
                        "this thread");
        return false;
    }
    if (state_of(self) == NESTED) {
        set_thread(self, NULL);
        set_state(self, IDLE);
        return true;
    }
    bool is_done = state_of(self) != HELD
                   || unlock_all(self->wanted, self->wanted->count);
    pop(thread);
    return sections_resume(thread) && is_done;
}

/* -- CriticalSection ------------------------------------------------------------ */

static inline struct section *
as_section(PyObject *self)
{
    return (struct section *)self;
}

static void
empty(struct mutex_set *set)
{
    while (set->count > 0) {
        Py_DECREF(set->mutexes[--set->count]);
    }
    if (set->mutexes != set->few) {
        PyMem_Free(set->mutexes);
    }
    set->mutexes = set->few;
}

/* Insert in order, unless it is there; there is room. */
static bool
add(struct mutex_set *set, PyTypeObject *mutex_type, PyObject *mutex)
{
    if (Py_TYPE(mutex) != mutex_type) {
        PyErr_Format(PyExc_TypeError,
                     "cannot begin a section: %R is not a Mutex", mutex);
        return false;
    }
    struct mutex_object *wanted = (struct mutex_object *)mutex;
    Py_ssize_t n = set->count;
    while (n > 0 && (uintptr_t)set->mutexes[n - 1] >= (uintptr_t)wanted) {
        n--;
    }
    if (n < set->count && set->mutexes[n] == wanted) {
        return true;
    }
    memmove(&set->mutexes[n + 1], &set->mutexes[n],
            (size_t)(set->count - n) * sizeof(wanted));
    set->mutexes[n] = (struct mutex_object *)Py_NewRef(mutex);
    set->count++;
    return true;
}

/* Empty it, and have room for so many; false with an exception. */
static bool
make_room(struct mutex_set *set, Py_ssize_t size)
{
    empty(set);
    if (size > INLINE_MUTEXES) {
        struct mutex_object **room
            = PyMem_Calloc((size_t)size, sizeof(*room));
        if (room == NULL) {
            PyErr_NoMemory();
            return false;
        }
        set->mutexes = room;
    }
    return true;
}

static PyObject *section_call(PyObject *, PyObject *const *, size_t,
                              PyObject *);

static PyObject *
section_new(PyTypeObject *type, PyObject *mutexes, PyObject *keywords)
{
    struct module_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError,
                        "CriticalSection() takes no keyword arguments");
        return NULL;
    }
    struct section *self = as_section(allocate(type));
    if (self == NULL) {
        return NULL;
    }
    self->call = section_call;
    self->own.mutexes = self->own.few;
    self->given.mutexes = self->given.few;
    self->wanted = &self->own;
    Py_ssize_t size = PyTuple_Size(mutexes);
    bool is_done = make_room(&self->own, size);
    for (Py_ssize_t n = 0; is_done && n < size; n++) {
        is_done = add(&self->own, state->mutex_type,
                      PyTuple_GetItem(mutexes, n));
    }
    if (!is_done) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void
section_dealloc(PyObject *self)
{
    empty(&as_section(self)->own);
    empty(&as_section(self)->given);
    free_object(self);
}

/* From IDLE to TAKING; false with RuntimeError. */
static bool
take_section(struct section *self)
{
    enum section_state state = IDLE;
    if (atomic_compare_exchange_strong_explicit(
            &self->state, &state, TAKING, memory_order_acquire,
            memory_order_relaxed)) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "cannot begin: this section has begun already");
    return false;
}

static PyObject *
section_call(PyObject *object, PyObject *const *Py_UNUSED(arguments),
             size_t count, PyObject *keywords)
{
    struct section *self = as_section(object);
    int call = context_call(count, keywords);
    if (call == EXITS) {
        return none_if(end(self));
    }
    if (call != ENTERS) {
        return NULL;
    }
    struct cs_thread *thread = find_thread();
    if (thread == NULL) {
        struct module_state *state = PyType_GetModuleState(Py_TYPE(object));
        thread = state == NULL ? NULL : need_thread(state);
    }
    return thread != NULL && take_section(self)
                   && begin(self, thread, &self->own)
               ? Py_NewRef(object)
               : NULL;
}

/* `given` is None, or has to be this thread's. */
static bool
is_this_thread(PyObject *given, struct cs_thread *thread)
{
    if (given == NULL || given == Py_None || given == (PyObject *)thread) {
        return true;
    }
    PyErr_SetString(
        PyExc_RuntimeError,
        "cannot begin or end: a section belongs to the thread that runs");
    return false;
}

/* begin(mutex, ...) and begin_mutex2(first, second, ...) */
static PyObject *
begin_with(PyObject *object, PyTypeObject *defining, PyObject **mutexes,
           Py_ssize_t size, PyObject *given)
{
    struct section *self = as_section(object);
    struct module_state *state = PyType_GetModuleState(defining);
    if (state == NULL) {
        return NULL;
    }
    struct cs_thread *thread = need_thread(state);
    if (thread == NULL || !is_this_thread(given, thread)
        || !take_section(self)) {
        return NULL;
    }
    bool is_done = make_room(&self->given, size);
    for (Py_ssize_t n = 0; is_done && n < size; n++) {
        is_done = add(&self->given, state->mutex_type, mutexes[n]);
    }
    if (!is_done) {
        set_state(self, IDLE);
    }
    return none_if(is_done && begin(self, thread, &self->given));
}

static PyObject *
section_begin(PyObject *self, PyTypeObject *defining,
              PyObject *const *arguments, Py_ssize_t count,
              PyObject *keywords)
{
    static const char *const names[] = {"mutex", "thread", NULL};
    PyObject *values[2];
    if (!take_arguments("begin", names, 1, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 1, values[1]);
}

static PyObject *
section_begin_mutex2(PyObject *self, PyTypeObject *defining,
                     PyObject *const *arguments, Py_ssize_t count,
                     PyObject *keywords)
{
    static const char *const names[] = {"first", "second", "thread", NULL};
    PyObject *values[3];
    if (!take_arguments("begin_mutex2", names, 2, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    return begin_with(self, defining, values, 2, values[2]);
}

static PyObject *
section_end(PyObject *self, PyObject *const *arguments, Py_ssize_t count,
            PyObject *keywords)
{
    static const char *const names[] = {"thread", NULL};
    PyObject *given;
    if (!take_arguments("end", names, 0, arguments, count, keywords, &given)
        || !is_this_thread(given, find_thread())) {
        return NULL;
    }
    return none_if(end(as_section(self)));
}

static PyObject *
section_repr(PyObject *self)
{
    static const char *const words[]
        = {"idle", "suspended", "held", "suspended", "nested"};
    return PyUnicode_FromFormat(
        "<%s portalocker.pysync.CriticalSection object at %p>",
        words[state_of(as_section(self))], self);
}

PyDoc_STRVAR(section_doc,
"CriticalSection(*mutexes)\n--\n\n"
"Holds its mutexes, except while its thread sleeps in a lock.");

static PyMethodDef section_methods[] = {
    {"begin", OF_CLASS(section_begin),
     PyDoc_STR("begin($self, mutex, thread=None)\n--\n\n"
               "Begin to hold `mutex`.")},
    {"begin_mutex2", OF_CLASS(section_begin_mutex2),
     PyDoc_STR("begin_mutex2($self, first, second, thread=None)\n--\n\n"
               "Begin to hold both.")},
    {"end", KEYWORDS(section_end),
     PyDoc_STR("end($self, thread=None)\n--\n\n"
               "Unlock them; the section around this one holds its own "
               "again.")},
    REFUSE_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot section_slots[] = {
    {Py_tp_doc, (char *)section_doc},
    {Py_tp_new, section_new},
    {Py_tp_dealloc, section_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, section_repr},
    {Py_tp_members, context_members},
    {Py_tp_methods, section_methods},
    {0, NULL},
};

static PyType_Spec section_spec = {
    .name = "portalocker.pysync.CriticalSection",
    .basicsize = sizeof(struct section),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = section_slots,
};

/* -- CSThread -------------------------------------------------------------------- */

static PyObject *
thread_top(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    /* in another thread, it might go while we look */
    if ((struct cs_thread *)self != find_thread()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot look: these are another thread's sections");
        return NULL;
    }
    PyObject *top = (PyObject *)((struct cs_thread *)self)->top;
    return Py_NewRef(top == NULL ? Py_None : top);
}

static PyObject *
thread_current(PyObject *type, PyObject *Py_UNUSED(ignored))
{
    struct module_state *state = PyType_GetModuleState((PyTypeObject *)type);
    return state == NULL ? NULL
                         : Py_XNewRef((PyObject *)need_thread(state));
}

static void
thread_dealloc(PyObject *object)
{
    struct cs_thread *self = (struct cs_thread *)object;
    /* what the thread left begun stays locked, as any lock would */
    while (self->top != NULL) {
        pop(self);
    }
    free_object(object);
}

static PyMethodDef thread_methods[] = {
    {"current", thread_current, METH_NOARGS | METH_CLASS,
     PyDoc_STR("current()\n--\n\nThe stack of the thread that runs.")},
    {"top", thread_top, METH_NOARGS,
     PyDoc_STR("top($self)\n--\n\n"
               "The innermost section, or None; in its own thread only.")},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(thread_doc,
"The critical sections that one thread has begun.");

static PyType_Slot thread_slots[] = {
    {Py_tp_doc, (char *)thread_doc},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_members, object_members},
    {Py_tp_methods, thread_methods},
    {0, NULL},
};

static PyType_Spec thread_spec = {
    .name = "portalocker.pysync.CSThread",
    .basicsize = sizeof(struct cs_thread),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = thread_slots,
};

int
add_sections(PyObject *module)
{
    return add_type(module, "CSThread", &thread_spec,
                    &module_state(module)->thread_type)
                       < 0
                   || add_context_type(module, "CriticalSection",
                                       &section_spec, NULL)
                          < 0
               ? -1
               : 0;
}
