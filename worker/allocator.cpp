// jemalloc's settings for the worker, into which it is linked in malloc's place. A training step frees and
// asks again for the same gigabytes; glibc's malloc gives them back to the kernel in between, which then has
// to clear them page by page. So: keep what is free, and treat large blocks as all others. (Huge pages made
// no difference to a step's time and cost the first one half a second.) MALLOC_CONF in the environment goes
// before this.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1";
}
