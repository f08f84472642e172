import { expect, test } from "vitest";
import { explainCause } from "./failed-start.ts";

const none = { checks: null, failedUnits: "", jobs: "" };

test.each([
  [
    "health checks before everything else",
    {
      checks: '"web" failed (exit status 1)\n"db" failed (took longer than 60 seconds)\n',
      failedUnits: "x.service loaded failed failed X\n",
      jobs: "",
    },
    'Health check "web" failed (exit status 1), "db" failed (took longer than 60 seconds)',
  ],
  [
    "failed units",
    {
      ...none,
      failedUnits: "a.service loaded failed failed A thing\nb.mount   loaded failed failed /b\n",
    },
    "a.service, b.mount failed",
  ],
  [
    "many",
    {
      ...none,
      failedUnits: [1, 2, 3, 4, 5, 6, 7]
        .map((n) => `u${n}.service loaded failed failed x\n`)
        .join(""),
    },
    "u1.service, u2.service, u3.service, u4.service, u5.service and 2 more failed",
  ],
  [
    "what everything waits for",
    {
      ...none,
      jobs: "120 bootc-boot-failed.service start running\n121 slow.service start running\n98 multi-user.target start waiting\n",
    },
    "Not complete in time, waiting for slow.service",
  ],
  ["nothing to be found", none, "boot-complete.target was not reached"],
])("%s", (_, found, text) => expect(explainCause(found)).toBe(text));
