/* The parking lot for Python: park, park_if, unpark. */
#include "_native.h"

/* -- callbacks ------------------------------------------------------------------ */

/* A key's check() and its unpark()'s fn() never run at once, and nobody parks
 * between fn() and the wake-up. Bucket locks are not held over Python code:
 * these mutexes are, one for many keys. */
enum { CALLBACK_MUTEXES = 257 };
static struct mutex callback_mutexes[CALLBACK_MUTEXES];

/* What this thread holds while a callback runs. */
static _Thread_local struct mutex *held;

bool
callback_is_running(void)
{
    if (held != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot use the parking lot: this thread is inside "
                        "one of its callbacks");
    }
    return held != NULL;
}

void
callbacks_after_fork(void)
{
    for (int n = 0; n < CALLBACK_MUTEXES; n++) {
        /* the callback that called fork() goes on in the child */
        atomic_store_explicit(
            &callback_mutexes[n].bits,
            &callback_mutexes[n] == held ? LOCKED : 0, memory_order_relaxed);
    }
}

static struct mutex *
lock_callbacks(const void *key)
{
    if (callback_is_running()) {
        return NULL;
    }
    struct mutex *mutex
        = &callback_mutexes[((uintptr_t)key >> 4) % CALLBACK_MUTEXES];
    return mutex_lock(mutex, NULL, NEVER) == DONE ? mutex : NULL;
}

/* Keeps a raised exception. */
static void
unlock_callbacks(struct mutex *mutex)
{
    PyObject *error, *value, *traceback;
    PyErr_Fetch(&error, &value, &traceback);
    mutex_unlock(mutex);
    PyErr_Restore(error, value, traceback);
}

/* What threads wait for in a lock of ours; NULL for any other object. */
static const void *
key_inside(struct module_state *state, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type == state->rw_type) {
        return rw_mutex_key(object);
    }
    if (type == state->view_type) {
        return rw_view_key(object);
    }
    return type == state->mutex_type || type == state->raw_type
                   || type == state->recursive_type
                   || type == state->event_type || type == state->once_type
                   || PyObject_TypeCheck(object, state->seq_type)
               ? (const char *)object + sizeof(struct object)
               : NULL;
}

/* The first of this interpreter: some objects are the same in all. */
static struct waiter *
ours_from(struct waiter *waiter)
{
    while (waiter != NULL
           && waiter->interpreter != PyInterpreterState_Get()) {
        waiter = queue_find_next(waiter);
    }
    return waiter;
}

static Py_ssize_t
count_parked(const void *key)
{
    Py_ssize_t count = 0;
    struct bucket *bucket = bucket_lock(key);
    struct waiter *waiter = ours_from(queue_find(&bucket->queue, key));
    for (; waiter != NULL; waiter = ours_from(queue_find_next(waiter))) {
        count++;
    }
    bucket_unlock(bucket);
    return count;
}

/* Claim at most `most`; return how many. `argument` is the last one's, as a
 * new reference: its thread keeps it only until the alarm. */
static Py_ssize_t
claim_parked(const void *key, Py_ssize_t most, struct wake_list *woken,
             PyObject **argument)
{
    Py_ssize_t count = 0;
    struct bucket *bucket = bucket_lock(key);
    struct waiter *waiter = ours_from(queue_find(&bucket->queue, key));
    while (waiter != NULL && count < most) {
        struct waiter *next = ours_from(queue_find_next(waiter));
        if (argument != NULL) {
            *argument = Py_XNewRef(waiter->argument);
        }
        claim(&bucket->queue, waiter, woken);
        count++;
        waiter = next;
    }
    bucket_unlock(bucket);
    return count;
}

/* -- park ------------------------------------------------------------------------- */

/* The numbers of ParkStatus; PARK_ERROR comes with an exception. */
enum { PARK_OK, PARK_TIMEOUT, PARK_AGAIN, PARK_INTR, PARK_ERROR };

/* In the queue of `key`, with the callbacks' mutex held until we are. */
static int
park_locked(struct mutex *mutex, PyObject *key, nanoseconds deadline,
            PyObject *argument)
{
    struct waiter *waiter = waiter_take(key, key);
    if (waiter == NULL) {
        unlock_callbacks(mutex);
        return PARK_ERROR;
    }
    waiter->argument = argument;
    bucket_enter(bucket_lock(key), waiter);
    unlock_callbacks(mutex);
    enum outcome outcome = bucket_sleep(waiter, deadline, true);
    bool is_claimed = waiter->is_claimed;
    if (!waiter_give_back(waiter)) {
        outcome = INTERRUPTED;
    }
    if (outcome == INTERRUPTED && is_claimed) {
        /* the next one's turn */
        struct wake_list woken = {NULL};
        claim_parked(key, 1, &woken, NULL);
        wake(&woken);
    }
    return outcome == INTERRUPTED ? PARK_ERROR
           : outcome == TIMED_OUT ? PARK_TIMEOUT
           /* a fork in a handler: the child's queue has forgotten us */
           : is_claimed ? PARK_OK
                        : PARK_AGAIN;
}

static PyObject *
park_status(struct module_state *state, int status)
{
    return status == PARK_ERROR ? NULL
                                : Py_NewRef(state->park_status[status]);
}

/* The lot is entered even where there is no time: AT_ONCE is in the past. */
static PyObject *
park(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
     PyObject *keywords)
{
    static const char *const names[]
        = {"key", "check", "timeout", "arg", NULL};
    PyObject *values[4];
    nanoseconds deadline;
    if (!take_arguments("park", names, 2, arguments, count, keywords, values)
        || !deadline_of_timeout(values[2], &deadline)) {
        return NULL;
    }
    struct mutex *mutex = lock_callbacks(values[0]);
    if (mutex == NULL) {
        return NULL;
    }
    held = mutex;
    PyObject *answer = PyObject_CallNoArgs(values[1]);
    int wants = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    held = NULL;
    int status = wants < 0 ? PARK_ERROR : PARK_AGAIN;
    if (wants > 0) {
        status = park_locked(mutex, values[0], deadline,
                             values[3] == NULL ? Py_None : values[3]);
    }
    else {
        unlock_callbacks(mutex);
    }
    return park_status(module_state(module), status);
}

static PyObject *
park_if(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
        PyObject *keywords)
{
    static const char *const names[]
        = {"word", "expected", "timeout", "arg", NULL};
    PyObject *values[4];
    nanoseconds deadline;
    int64_t expected;
    struct module_state *state = module_state(module);
    if (!take_arguments("park_if", names, 2, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    if (Py_TYPE(values[0]) != state->word_type) {
        PyErr_Format(PyExc_TypeError,
                     "cannot park: %R is not an AtomicInt", values[0]);
        return NULL;
    }
    if (!as_int64(values[1], &expected)
        || !deadline_of_timeout(values[2], &deadline)) {
        return NULL;
    }
    struct mutex *mutex = lock_callbacks(values[0]);
    if (mutex == NULL) {
        return NULL;
    }
    int status = PARK_AGAIN;
    if (atomic_int_value(values[0]) == expected) {
        status = park_locked(mutex, values[0], deadline,
                             values[3] == NULL ? Py_None : values[3]);
    }
    else {
        unlock_callbacks(mutex);
    }
    return park_status(state, status);
}

/* -- unpark ------------------------------------------------------------------------- */

static const char *const key_names[] = {"key", NULL};

static PyObject *
unpark(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
       PyObject *keywords)
{
    static const char *const names[] = {"key", "fn", NULL};
    PyObject *values[2];
    if (!take_arguments("unpark", names, 1, arguments, count, keywords,
                        values)) {
        return NULL;
    }
    PyObject *key = values[0];
    const void *inside = key_inside(module_state(module), key);
    struct mutex *mutex = lock_callbacks(key);
    if (mutex == NULL) {
        return NULL;
    }
    struct wake_list woken = {NULL};
    PyObject *argument = NULL;
    bool has_woken
        = claim_parked(key, 1, &woken, &argument) > 0
          || (inside != NULL
              && claim_parked(inside, 1, &woken, &argument) > 0);
    bool failed = false;
    if (values[1] != NULL && values[1] != Py_None) {
        bool has_more = count_parked(key) > 0
                        || (inside != NULL && count_parked(inside) > 0);
        held = mutex;
        PyObject *result = PyObject_CallFunctionObjArgs(
            values[1], argument == NULL ? Py_None : argument,
            has_woken && has_more ? Py_True : Py_False, NULL);
        failed = result == NULL;
        Py_XDECREF(result);
        held = NULL;
    }
    unlock_callbacks(mutex);
    wake(&woken);
    Py_XDECREF(argument);
    return failed ? NULL : PyBool_FromLong(has_woken);
}

static PyObject *
unpark_all(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
           PyObject *keywords)
{
    PyObject *key;
    if (!take_arguments("unpark_all", key_names, 1, arguments, count,
                        keywords, &key)) {
        return NULL;
    }
    const void *inside = key_inside(module_state(module), key);
    struct mutex *mutex = lock_callbacks(key);
    if (mutex == NULL) {
        return NULL;
    }
    struct wake_list woken = {NULL};
    Py_ssize_t woken_ones = claim_parked(key, PY_SSIZE_T_MAX, &woken, NULL);
    if (inside != NULL) {
        woken_ones += claim_parked(inside, PY_SSIZE_T_MAX, &woken, NULL);
    }
    unlock_callbacks(mutex);
    wake(&woken);
    return PyLong_FromSsize_t(woken_ones);
}

static PyObject *
parked_count(PyObject *module, PyObject *const *arguments, Py_ssize_t count,
             PyObject *keywords)
{
    PyObject *key;
    if (!take_arguments("parked_count", key_names, 1, arguments, count,
                        keywords, &key)
        || callback_is_running()) {
        return NULL;
    }
    const void *inside = key_inside(module_state(module), key);
    return PyLong_FromSsize_t(
        count_parked(key) + (inside == NULL ? 0 : count_parked(inside)));
}

static PyObject *
waits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return callback_is_running() ? NULL : lot_waits();
}

static PyObject *
after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    /* fork() itself has seen to it */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"park", KEYWORDS(park),
     PyDoc_STR("park($module, key, check, timeout=None, arg=None)\n--\n\n"
               "Sleep until unparked, if check() says so.")},
    {"park_if", KEYWORDS(park_if),
     PyDoc_STR("park_if($module, word, expected, timeout=None, arg=None)\n"
               "--\n\n"
               "Sleep until unparked, if the word has the expected value.")},
    {"unpark", KEYWORDS(unpark),
     PyDoc_STR("unpark($module, key, fn=None)\n--\n\n"
               "Wake who is parked longest; say whether there was one.")},
    {"unpark_all", KEYWORDS(unpark_all),
     PyDoc_STR("unpark_all($module, key)\n--\n\n"
               "Wake all that are parked; return how many.")},
    {"parked_count", KEYWORDS(parked_count),
     PyDoc_STR("parked_count($module, key)\n--\n\n"
               "Return how many threads wait for `key`, a lock or any "
               "object.")},
    {"after_fork", after_fork, METH_NOARGS,
     PyDoc_STR("after_fork($module)\n--\n\n"
               "Forget the waiters of the parent; fork() has done it.")},
    {"_waits", waits, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* The members 0 to count - 1 of the enum `name`. */
static int
load_members(PyObject *words, const char *name, PyObject **members, int count)
{
    PyObject *enumeration = PyObject_GetAttrString(words, name);
    for (int n = 0; enumeration != NULL && n < count; n++) {
        members[n] = PyObject_CallFunction(enumeration, "i", n);
        if (members[n] == NULL) {
            Py_CLEAR(enumeration);
        }
    }
    Py_XDECREF(enumeration);
    return enumeration == NULL ? -1 : 0;
}

int
add_parking(PyObject *module)
{
    struct module_state *state = module_state(module);
    PyObject *words = PyImport_ImportModule("portalocker.pysync._words");
    if (words == NULL) {
        return -1;
    }
    int failed = load_members(words, "LockStatus", state->lock_status, 3) < 0
                 || load_members(words, "ParkStatus", state->park_status, 4)
                        < 0;
    Py_DECREF(words);
    if (failed) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
