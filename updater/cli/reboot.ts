// Restarting the machine at the end of a verb (bootc.md 1.4).

import { runProgram } from "../boot/program.ts";

export function rebootSystem(): void {
  runProgram("systemctl", ["reboot", "--message=Initiated by bootc"], { package: "systemd" });
}
