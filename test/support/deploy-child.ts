// Updates and shuts down a scratch machine of another process, which kills this one:
//
//   bun test/support/deploy-child.ts DIRECTORY DEPLOYMENT IMAGE

import { writeSync } from "node:fs";
import { join } from "node:path";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { CrashMachine, update } from "../sim/crash-lab.ts";

const [directory = "", id = "", image = ""] = process.argv.slice(2);
const places = { directory, disk: join(directory, "disk"), esp: join(directory, "esp") };
const running = new CrashMachine(places).resume(id);
writeSync(1, "begun\n");
await update(running, image);
finalizeStaged(running, running.world());
