/* SPDX-License-Identifier: Apache-2.0
 *
 * The one table of errors. A function that can fail returns 0 (or a count) on success and a
 * negative value of enum leat_error on failure; ret_ outputs are written only on success.
 */
#ifndef LEAT_ERROR_H
#define LEAT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, sentence) */
#define LEAT_ERRORS(X)                                                                             \
    X(LEAT_OK, 0, "success")                                                                       \
    X(LEAT_EINVAL, -1, "an argument is not valid")                                                 \
    X(LEAT_EAGAIN, -2, "not just now: no room, or the node is away or slow; try again")            \
    X(LEAT_ETOOBIG, -3, "the record is larger than the log's largest entry")                       \
    X(LEAT_ENOLOG, -4, "no such log")                                                              \
    X(LEAT_ENOLEADER, -5, "no leader within the deadline")                                         \
    X(LEAT_EDEADLINE, -6, "the deadline passed: the outcome is unknown")                           \
    X(LEAT_ESESSION, -7, "replicated appends of this session were lost with a majority's memory")  \
    X(LEAT_ENOSESSION, -8, "session unknown: it expired or was never opened")                      \
    X(LEAT_ESESSIONS, -9, "the log's session table is full")                                       \
    X(LEAT_EROLLBACK, -10, "records read at the replicated level were rolled back")                \
    X(LEAT_ETRIMMED, -11, "the position was trimmed")                                              \
    X(LEAT_ELEVEL, -12, "the log refuses appends at the replicated level")                         \
    X(LEAT_ECLOSED, -13, "the connection to the node is closed")                                   \
    X(LEAT_EPERM, -14, "this user may not attach to the node")                                     \
    X(LEAT_EPROTO, -15, "the other side broke the protocol")                                       \
    X(LEAT_EVERSION, -16, "the format or protocol version is not supported")                       \
    X(LEAT_EIO, -17, "a read or write failed")                                                     \
    X(LEAT_ENOMEM, -18, "out of memory or address space")                                          \
    X(LEAT_ECORRUPT, -19, "the data is damaged")                                                   \
    X(LEAT_ECHAIN, -20, "the frame does not continue the log's chain")                             \
    X(LEAT_EUNFORMATTED, -21, "the data directory is not formatted")                               \
    X(LEAT_ECLUSTER, -22, "the data directory belongs to another cluster")                         \
    X(LEAT_ENODE, -23, "the data directory belongs to another node")                               \
    X(LEAT_EWORKERS, -24, "the data directory was formatted for another worker count")             \
    X(LEAT_EINUSE, -25, "the data directory is in use by another process")                         \
    X(LEAT_EEXISTS, -26, "it exists already")                                                      \
    X(LEAT_ENOTLEADER, -27, "this node does not lead the log")                                     \
    X(LEAT_ENOSPACE, -28, "no space left for the log")                                             \
    X(LEAT_EDAMAGED, -29, "the replica is damaged and waits for repair from its peers")            \
    X(LEAT_EFENCED, -30, "the node stopped itself after a failed write or flush")                  \
    X(LEAT_ECONFIG, -31, "the configuration is not valid")                                         \
    X(LEAT_ENOTFOUND, -32, "not found")                                                            \
    X(LEAT_ESYSTEM, -33, "a system call failed")                                                   \
    X(LEAT_EUNKNOWN, -34, "recorded, position unknown")                                            \
    X(LEAT_EVOTES, -35, "both vote slots are damaged")                                             \
    X(LEAT_ECONDITION, -36, "the log's next offset is not the one the append asked for")           \
    X(LEAT_EFENCEDOUT, -37, "a writer with a higher epoch has fenced this one out of the log")     \
    X(LEAT_EQUOTA, -38, "this user's quota is used up")                                            \
    X(LEAT_EBUDGET, -39, "the node's budget for logs does not hold another of this size")          \
    X(LEAT_EWORKER, -40, "the log lives on another worker of this node")                           \
    X(LEAT_EFORK, -41, "the client was attached before a fork: attach again in the child")         \
    X(LEAT_EDELETED, -42, "the log was deleted: the append may have been in it")                   \
    X(LEAT_EVERIFYING, -43, "the node reads the segment through before it gives it away: ask again")

enum leat_error {
#define LEAT_ERROR_ENUM(name, value, sentence) name = value,
    LEAT_ERRORS(LEAT_ERROR_ENUM)
#undef LEAT_ERROR_ENUM
};

/* The sentence for an error; never NULL. Any thread. */
__attribute__((visibility("default"))) const char *leat_error_text(int error);

/* The name of an error ("LEAT_EAGAIN"); never NULL. Any thread. */
__attribute__((visibility("default"))) const char *leat_error_name(int error);

#ifdef __cplusplus
}
#endif

#endif
