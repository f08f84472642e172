// What the verbs that change deployments work with; opened once, for as long as a verb runs.

import type { Repository } from "../../shared/store/repository.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";

export interface Deployer {
  readonly system: System;
  readonly boot: BootDirectory;
  readonly repo: Repository;
}
