/* SPDX-License-Identifier: Apache-2.0 */
#include "disk_fake.h"
#include "support.h"

void fake_rig_start(struct rig *rig)
{
    fake_reset();
    rig_format(rig);
    rig_start(rig);
}

int fake_rig_remove(void **state)
{
    rig_remove(*state);
    fake_reset();
    return 0;
}
