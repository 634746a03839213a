/* SPDX-License-Identifier: Apache-2.0
 *
 * memif links between processes of one host (rule X2): for development and tests, no root, no
 * huge pages. ONE TRUST DOMAIN: the driver uses ring offsets and lengths that the peer writes.
 *
 * The exclusion. DPDK serves memif's sockets on its interrupt thread (here: the control thread).
 * When a peer dies, that thread unmaps the rings, also under a worker inside a burst, which then
 * crashes (counter-example CE8). So control path and bursts exclude each other:
 *
 *   - every step of the control path that touches a device begins with recvmsg() on its socket:
 *     this file interposes recvmsg, which closes the gate when it runs on the control thread;
 *   - it ends when the thread goes back to epoll_wait(), interposed to open the gate again;
 *   - accept() on a listening socket touches no device, alarms are ours (below);
 *   - a worker enters the gate around its bursts; when it is closed it skips them.
 *
 * Reconnection. The driver connects a client-role device only in dev_start, once. The control
 * thread does it again from an alarm until the link is up: on that thread and no other, since a
 * stop from elsewhere frees a control channel under a handler that is about to use it.
 *
 *   STOPPED --start--> CONNECTING --handshake--> UP --peer gone--> STOPPED     (client role)
 *              ^            | socket ended, or LINK_HANDSHAKE_NS passed
 *              +------------+
 *   A server-role device stays started; the driver takes one client after the other.
 *
 * Workers share a link, each with its own queue of it, and pass the gate each on its own: bursts of
 * different workers do not exclude each other, the control path waits for all.
 *
 * Threads: struct link and everything called control_ or link_ are the control thread's.
 * Tests: tests/dataplane/test_memif.c (start orders, 100 kills on a shared CPU).
 */
#include "port_dpdk.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_bus_vdev.h>
#include <rte_pause.h>

#include "base/assert.h"
#include "dataplane/clock.h"
#include "leat/error.h"

#define MEMIF_RING_LOG2          10u /* 1024 slots: 16 bursts */
#define MEMIF_BUFFER_ALIGN       64u
#define MEMIF_LINKS_MAX          (PORT_COUNT_MAX * LEAT_PORT_PEERS_MAX)
#define MEMIF_MESSAGE_DISCONNECT 8u /* of the memif protocol; the type leads each message */
#define LINK_RETRY_US            10000u
#define LINK_HANDSHAKE_NS        500000000u /* a dozen messages between threads of busy CPUs */
#define CONTROL_CALL_SECONDS     10
#define CONTROL_SPINS            200u
#define CONTROL_WAIT_NS          20000

struct link {
    struct port_host *host;
    struct port_device *device;
    int fd;     /* client: of the control channel; -1 none */
    bool ended; /* client: that channel ended */
    uint64_t started_ns;
};

/* One word per port, each on a cache line of its own: set while its worker is in a burst. */
static struct {
    _Alignas(64) atomic_uint busy;
} gate_ports[PORT_COUNT_MAX];
static atomic_uint gate_closed; /* the control thread's */

static struct link links[MEMIF_LINKS_MAX];
static unsigned link_count;
static bool control_alarm_set;
static bool control_holds; /* the gate */
static bool control_parked;
static struct link *control_connecting;
static _Thread_local bool on_control_thread;

static ssize_t (*libc_recvmsg)(int, struct msghdr *, int);
static ssize_t (*libc_sendmsg)(int, const struct msghdr *, int);
static int (*libc_epoll_wait)(int, struct epoll_event *, int, int);
static int (*libc_connect)(int, const struct sockaddr *, socklen_t);

/* --- the gate: each side announces itself, then looks at the other's word */

bool port_memif_enter(const struct leat_port *port)
{
    atomic_uint *busy = &gate_ports[port->slot].busy;
    LEAT_DASSERT(atomic_load_explicit(busy, memory_order_relaxed) == 0);
    atomic_store_explicit(busy, 1, memory_order_seq_cst); /* before the load: with control_close */
    if (atomic_load_explicit(&gate_closed, memory_order_seq_cst) == 0)
        return true;
    atomic_store_explicit(busy, 0, memory_order_release);
    return false;
}

void port_memif_leave(const struct leat_port *port)
{
    /* the burst's reads and writes happen before control_close sees 0 */
    atomic_store_explicit(&gate_ports[port->slot].busy, 0, memory_order_release);
}

static void control_wait_for(atomic_uint *busy)
{
    static const struct timespec wait = {.tv_nsec = CONTROL_WAIT_NS};
    unsigned spins = 0;
    while (atomic_load_explicit(busy, memory_order_seq_cst) != 0) {
        if (spins++ < CONTROL_SPINS)
            rte_pause();
        else
            nanosleep(&wait, NULL); /* the worker was preempted in its burst */
    }
}

static void control_close(void)
{
    LEAT_ASSERT(on_control_thread);
    if (control_holds)
        return;
    control_holds = true;
    atomic_store_explicit(&gate_closed, 1, memory_order_seq_cst);
    for (unsigned i = 0; i < PORT_COUNT_MAX; i++)
        control_wait_for(&gate_ports[i].busy);
}

static void control_open(void)
{
    if (!control_holds)
        return;
    control_holds = false;
    /* the control path's writes happen before the next burst */
    atomic_store_explicit(&gate_closed, 0, memory_order_seq_cst);
}

/* --- links */

static bool link_is_connected(const struct link *link)
{
    struct rte_eth_link state = {.link_status = RTE_ETH_LINK_DOWN};
    return rte_eth_link_get_nowait(link->device->ethdev, &state) == 0 &&
           state.link_status == RTE_ETH_LINK_UP;
}

static void device_stop(struct port_device *device)
{
    control_close();
    atomic_store_explicit(&device->running, false, memory_order_relaxed);
    atomic_store_explicit(&device->up, false, memory_order_relaxed);
    rte_eth_dev_stop(device->ethdev);
}

static void link_stop(struct link *link)
{
    device_stop(link->device);
    link->fd = -1;
}

/* The device is stopped, so no burst touches it: the gate may be open. */
static void link_start(struct link *link, uint64_t now_ns)
{
    struct port_log_capture capture; /* an absent peer is not worth a line each time */
    LEAT_ASSERT(!atomic_load(&link->device->running));
    link->ended = false;
    link->started_ns = now_ns;
    control_connecting = link->device->client ? link : NULL;
    port_log_capture_begin(&capture);
    int rc = rte_eth_dev_start(link->device->ethdev);
    port_log_capture_end();
    control_connecting = NULL;
    if (rc == 0)
        atomic_store_explicit(&link->device->running, true, memory_order_release);
    else
        link->fd = -1;
}

/* Publishes what the driver knows. Returns true when the link needs the alarm. */
static bool link_publish(struct link *link)
{
    bool running = atomic_load_explicit(&link->device->running, memory_order_relaxed);
    bool up = running && link_is_connected(link);
    if (atomic_load_explicit(&link->device->up, memory_order_relaxed) != up)
        atomic_store_explicit(&link->device->up, up, memory_order_release);
    return link->device->client && !up;
}

static void link_step(struct link *link, uint64_t now_ns)
{
    if (!link_publish(link))
        return;
    if (atomic_load_explicit(&link->device->running, memory_order_relaxed)) {
        if (!link->ended && now_ns - link->started_ns < LINK_HANDSHAKE_NS)
            return;
        link_stop(link);
    }
    link_start(link, now_ns);
}

/* --- the control thread */

static void control_alarm(void *unused)
{
    (void)unused;
    control_alarm_set = false;
    uint64_t now_ns = leat_clock_monotonic_ns();
    for (unsigned i = 0; i < link_count; i++)
        link_step(&links[i], now_ns);
}

/* Before the thread waits again: tells the workers, and sees to links that are not up. */
static void control_publish(void)
{
    bool alarm = false;
    for (unsigned i = 0; i < link_count; i++)
        alarm |= link_publish(&links[i]);
    if (alarm && !control_alarm_set)
        control_alarm_set = rte_eal_alarm_set(LINK_RETRY_US, control_alarm, NULL) == 0;
}

struct control_call {
    void (*function)(void *);
    void *argument;
    sem_t done;
};

static void control_run(void *argument)
{
    struct control_call *call = argument;
    call->function(call->argument);
    sem_post(&call->done);
}

int port_control_do(void (*function)(void *), void *argument)
{
    static struct control_call call; /* outlives a timeout; open and close are one thread's */
    struct timespec until;
    call = (struct control_call){.function = function, .argument = argument};
    sem_init(&call.done, 0, 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CONTROL_CALL_SECONDS;
    if (rte_eal_alarm_set(1, control_run, &call) != 0)
        return LEAT_ESYSTEM;
    while (sem_timedwait(&call.done, &until) != 0) {
        if (errno != EINTR)
            return LEAT_ESYSTEM;
    }
    sem_destroy(&call.done);
    return 0;
}

static void control_found(void *unused)
{
    (void)unused;
    on_control_thread = true;
}

int port_memif_start(void)
{
    /* POSIX lets dlsym's result be a function; ISO C wants the detour over memory */
    *(void **)&libc_recvmsg = dlsym(RTLD_NEXT, "recvmsg");
    *(void **)&libc_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    *(void **)&libc_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
    *(void **)&libc_connect = dlsym(RTLD_NEXT, "connect");
    return port_control_do(control_found, NULL);
}

static void control_park(void *unused)
{
    (void)unused;
    rte_eal_alarm_cancel(control_alarm, NULL);
    control_parked = true;
}

/* The EAL's cleanup takes the memory away that its own interrupt thread goes on to read. */
void port_memif_stop(void)
{
    LEAT_ASSERT(link_count == 0);
    int rc = port_control_do(control_park, NULL);
    LEAT_ASSERT(rc == 0);
}

/* --- interposed functions: the driver's calls come here, and everybody else's pass through */

/* The client's channel is over: at its end of file, an error, or the server's refusal. */
static void link_note_message(int fd, const struct msghdr *message, ssize_t received)
{
    uint16_t type = MEMIF_MESSAGE_DISCONNECT;
    if (received >= (ssize_t)sizeof(type))
        memcpy(&type, message->msg_iov[0].iov_base, sizeof(type));
    for (unsigned i = 0; type == MEMIF_MESSAGE_DISCONNECT && i < link_count; i++) {
        if (links[i].fd == fd)
            links[i].ended = true;
    }
}

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (!on_control_thread) {
        if (libc_recvmsg == NULL)
            *(void **)&libc_recvmsg = dlsym(RTLD_NEXT, "recvmsg");
        return libc_recvmsg(fd, message, flags);
    }
    control_close();
    /* An event may be stale (its socket closed, the number taken by a new one): never wait with
     * the gate closed. The driver then disconnects, and the link is started again. */
    ssize_t received = libc_recvmsg(fd, message, flags | MSG_DONTWAIT);
    link_note_message(fd, message, received);
    return received;
}

/* A peer that died between connect and accept: the driver, when its greeting fails, closes the
 * socket but leaves it registered, upon which the EAL panics. So the greeting does not fail; the
 * end of file that follows takes the orderly way. */
__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message,
                                                       int flags)
{
    if (libc_sendmsg == NULL)
        *(void **)&libc_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    if (!on_control_thread)
        return libc_sendmsg(fd, message, flags);
    ssize_t sent = libc_sendmsg(fd, message, flags | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
        return (ssize_t)message->msg_iov[0].iov_len;
    return sent;
}

__attribute__((visibility("default"))) int epoll_wait(int epfd, struct epoll_event *events,
                                                      int maxevents, int timeout)
{
    if (on_control_thread) {
        control_publish();
        control_open();
        while (control_parked)
            pause();
    } else if (libc_epoll_wait == NULL) {
        *(void **)&libc_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
    }
    return libc_epoll_wait(epfd, events, maxevents, timeout);
}

/* A paused server's backlog is full at two connections: a third must not stop the control thread,
 * which serves all other links too. */
__attribute__((visibility("default"))) int connect(int fd, __CONST_SOCKADDR_ARG address,
                                                   socklen_t length)
{
    if (libc_connect == NULL)
        *(void **)&libc_connect = dlsym(RTLD_NEXT, "connect");
    if (on_control_thread && control_connecting != NULL) {
        control_connecting->fd = fd;
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    return libc_connect(fd, address.__sockaddr__, length);
}

/* --- open and close */

/* Queue i carries what worker i sends, at both ends: as many pairs as the larger node has workers.
 * The number is in the socket's name, since the driver would let ends with different ones meet. */
static unsigned memif_queue_count(const struct leat_port_config *config, unsigned peer)
{
    unsigned own = config->worker_count > 0 ? config->worker_count : 1;
    unsigned other = config->peers[peer].worker_count;
    return other > own ? other : own;
}

static int memif_socket_path(const struct leat_port_config *config, unsigned peer,
                             char path[PORT_PATH_BYTES])
{
    uint32_t self = config->node_id, other = config->peers[peer].node_id;
    int bytes = snprintf(path, PORT_PATH_BYTES, "%s/%u-%u-q%u.sock", config->memif_dir,
                         self < other ? self : other, self < other ? other : self,
                         memif_queue_count(config, peer));
    return bytes > 0 && (unsigned)bytes < PORT_PATH_BYTES ? 0 : LEAT_EINVAL;
}

/* A killed server leaves its socket file; a living one answers. Returns 0 when the path is free. */
static int memif_free_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return LEAT_ESYSTEM;
    int rc = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    int reason = errno;
    close(fd);
    if (rc == 0 || reason == EAGAIN)
        return LEAT_EINUSE;
    if (reason == ECONNREFUSED)
        unlink(path);
    return 0;
}

int port_memif_arguments(const struct leat_port_config *config, struct port_device *device,
                         char *arguments, unsigned bytes, char *error, unsigned error_bytes)
{
    char *path = device->path;
    bool server = config->node_id < config->peers[device->peer].node_id;
    device->client = !server;
    device->rx_queue_count = device->tx_queue_count =
        (uint16_t)memif_queue_count(config, device->peer);
    if (memif_socket_path(config, device->peer, path) != 0 || strpbrk(path, ",[]\"") != NULL)
        return port_error(error, error_bytes, "memif_dir", NULL,
                          "too long for a socket's address, or holds one of ,[]\"", LEAT_EINVAL);
    if (server && memif_free_path(path) != 0)
        return port_error(error, error_bytes, path, NULL, "another process serves it", LEAT_EINUSE);
    /* a frame fits one buffer: the driver miscounts slots when it has to chain buffers */
    unsigned buffer_bytes = config->mtu_bytes + LEAT_NET_ETHERNET_BYTES;
    buffer_bytes =
        (buffer_bytes + MEMIF_BUFFER_ALIGN - 1) / MEMIF_BUFFER_ALIGN * MEMIF_BUFFER_ALIGN;
    uint32_t self = config->node_id;
    int used = snprintf(arguments, bytes,
                        "role=%s,id=0,socket=%s,socket-abstract=no,bsize=%u,rsize=%u,zero-copy=no,"
                        "mac=02:4c:%02x:%02x:%02x:%02x",
                        server ? "server" : "client", path, buffer_bytes, MEMIF_RING_LOG2,
                        self >> 24, self >> 16 & 255u, self >> 8 & 255u, self & 255u);
    LEAT_ASSERT(used > 0 && (unsigned)used < bytes);
    return 0;
}

static void control_add(void *argument)
{
    struct port_host *host = argument;
    for (unsigned i = 0; i < host->device_count; i++) {
        LEAT_ASSERT(link_count < MEMIF_LINKS_MAX);
        struct link *link = &links[link_count++];
        *link = (struct link){.host = host, .device = &host->devices[i], .fd = -1};
        link_start(link, leat_clock_monotonic_ns());
    }
}

/* The driver closes a listening socket's file but neither the socket nor its handler, which would
 * then use freed memory. So the socket is replaced, under its number, by one that never speaks. */
static void control_silence(const struct port_device *device)
{
    DIR *directory = opendir("/proc/self/fd");
    int silent = eventfd(0, EFD_CLOEXEC);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        struct sockaddr_un address = {.sun_family = AF_UNSPEC};
        socklen_t length = sizeof(address);
        int listens = 0, fd = atoi(entry->d_name);
        socklen_t listens_bytes = sizeof(listens);
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_bytes) == 0 && listens &&
            getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
            address.sun_family == AF_UNIX &&
            strncmp(address.sun_path, device->path, sizeof(address.sun_path)) == 0)
            dup2(silent, fd);
    }
    if (directory != NULL)
        closedir(directory);
    close(silent);
}

/* Also of a host whose links were never added. */
static void control_remove(void *argument)
{
    struct port_host *host = argument;
    struct port_log_capture capture;
    unsigned kept = 0;
    for (unsigned i = 0; i < link_count; i++) {
        if (links[i].host != host)
            links[kept++] = links[i];
    }
    link_count = kept;
    port_log_capture_begin(&capture);
    for (unsigned i = 0; i < host->device_count; i++) {
        device_stop(&host->devices[i]);
        if (!host->devices[i].client)
            control_silence(&host->devices[i]);
        rte_vdev_uninit(host->devices[i].name);
    }
    port_log_capture_end();
}

void port_memif_add(struct port_host *host)
{
    int rc = port_control_do(control_add, host);
    LEAT_ASSERT(rc == 0); /* the control thread is ours and never waits */
}

void port_memif_remove(struct port_host *host)
{
    int rc = port_control_do(control_remove, host);
    LEAT_ASSERT(rc == 0);
}
