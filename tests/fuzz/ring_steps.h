/* SPDX-License-Identifier: Apache-2.0
 *
 * What an input of the target `ring` may ask for next: its first byte, modulo their count.
 */
#ifndef LEAT_TESTS_FUZZ_RING_STEPS_H
#define LEAT_TESTS_FUZZ_RING_STEPS_H

enum ring_step {
    STEP_WORD,    /* any value into a shared word */
    STEP_BYTES,   /* any bytes into the ring */
    STEP_RECORD,  /* a record where the client's next one goes, published */
    STEP_CONSUME, /* all completions */
    STEP_PASS,
    STEP_COMMIT,  /* what a log sealed ends */
    STEP_SESSION, /* a log's session is gone */
    STEP_SPACE,   /* a log's disk is full from a sequence on, or has room again */
    STEP_ROLE,    /* a log changes its leader */
    STEP_TIME,
    STEP_DETACH, /* and attach anew */
    STEP_COUNT
};

#endif
