// The events of `--progress-fd` as documents (bootc.md 2.4), for `bootc internals print-json-schema --of
// progress`. What writes them is output/progress-json.ts; its tests check every line against this.

import * as z from "zod";

const count = z.uint32().meta({ format: "uint64" });
const bytes = z.int().nonnegative().meta({ format: "uint64" });

const Subtask = z
  .object({
    subtask: z.string().describe("Kind of the part, such as a layer"),
    description: z.string().describe("For people; not to be parsed"),
    id: z.string(),
  })
  .meta({ id: "Subtask" });

const SubtaskBytes = Subtask.extend({
  bytesCached: bytes.describe("Was here already"),
  bytes: bytes.describe("Done, with what was here"),
  bytesTotal: bytes.describe("0 when not known"),
}).meta({ id: "SubTaskBytes", description: "A part that is counted in bytes" });

const SubtaskStep = Subtask.extend({
  completed: z.boolean(),
}).meta({ id: "SubTaskStep", description: "A part that is done or not" });

const common = {
  task: z.string().describe("What is going on, such as pulling or staging"),
  description: z.string().describe("For people; not to be parsed"),
  id: z.string(),
};
const steps = {
  stepsCached: count.describe("Were done already"),
  steps: count.describe("Done, with those"),
  stepsTotal: count,
};

const ProgressEvent = z
  .union([
    z
      .object({ type: z.literal("Start"), version: z.string().describe("Of this protocol") })
      .describe("The first event"),
    z
      .object({
        type: z.literal("ProgressBytes"),
        ...common,
        bytesCached: bytes,
        bytes,
        bytesTotal: bytes.describe("0 when not known"),
        ...steps,
        subtasks: z.array(SubtaskBytes).describe("Parts that are under way"),
      })
      .describe("How far something is that is counted in bytes"),
    z
      .object({
        type: z.literal("ProgressSteps"),
        ...common,
        ...steps,
        subtasks: z.array(SubtaskStep),
      })
      .describe("How far something is that has steps"),
  ])
  .meta({ title: "Event", description: "One line of --progress-fd" });

/** JSON Schema (2020-12) of one line. */
export function progressJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(ProgressEvent, { target: "draft-2020-12" });
}
