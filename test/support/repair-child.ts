// Repairs a scenario in a process of its own, which is to be killed: after every piece of a blob that it
// reads, and after everything, it says a line and waits for one.

import { readSync, writeSync } from "node:fs";
import { openRepository } from "../../shared/store/repository.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { repairScenario, type Scenario } from "./repair-scenario.ts";

const [path = "", json = ""] = process.argv.slice(2);
const scenario = JSON.parse(json) as Scenario;

function pause(what: string): void {
  writeSync(1, `${what}\n`);
  readSync(0, new Uint8Array(1));
}

using repo = openRepository(null, path);
const { remaining } = await repairScenario(repo, scenario, (layout) => {
  const source = openSource(makeImageReference("oci", layout));
  return {
    ...source,
    openLayer: async function* (layer, diffId) {
      for await (const chunk of source.openLayer(layer, diffId)) {
        pause("chunk");
        yield chunk;
      }
      pause("end of layer");
    },
  };
});
pause(remaining.length === 0 ? "repaired" : JSON.stringify(remaining));
