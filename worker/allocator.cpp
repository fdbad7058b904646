// jemalloc's settings for the worker, into which it is linked in malloc's place. A training step frees and
// asks again for the same gigabytes; glibc's malloc gives them back to the kernel in between, which then has
// to clear them page by page. So: keep what is free, in huge pages, and treat large blocks as all others.
// MALLOC_CONF in the environment goes before this.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "thp:always,oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1";
}
