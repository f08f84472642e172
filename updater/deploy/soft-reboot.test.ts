import { expect, test } from "vitest";
import { parseShutdown, refuseSoftReboot } from "./soft-reboot.ts";

test.each([
  ["nothing", "", "none"],
  ["an ordinary job", " 77 ssh.service                start   running\n", "none"],
  [
    "a soft reboot",
    `1001 systemd-soft-reboot.service start waiting
1000 soft-reboot.target          start waiting
1023 shutdown.target             start waiting
 998 bootc-finalize-staged.service stop running
`,
    "soft-reboot",
  ],
  ["a restart", "12 reboot.target start waiting\n13 shutdown.target start waiting\n", "other"],
  ["power off", "12 poweroff.target start waiting\n13 shutdown.target start waiting\n", "other"],
  ["a target that is stopped", "12 soft-reboot.target stop waiting\n", "none"],
] as const)("%s", (_, jobs, shutdown) => {
  expect(parseShutdown(jobs)).toBe(shutdown);
});

test("a refusal names every reason and the way out, in one line", () => {
  const plan = { kind: "refused", id: "ab".repeat(64), reasons: ["one", "two"] } as const;
  expect(refuseSoftReboot(plan).message).toBe(
    'Cannot soft-reboot into deployment abababababab: one; two; "systemctl reboot" restarts the whole machine',
  );
});
