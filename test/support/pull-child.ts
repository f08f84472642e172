// Pulls from a server in a process of its own, which is to be killed: says a line when it begins and one when
// everything is done.

import { writeSync } from "node:fs";
import { openRepository } from "../../shared/store/repository.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { dropDownloads } from "../../updater/image/kept-downloads.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { openServed } from "./server-pull.ts";

const [path = "", reference = "", root = ""] = process.argv.slice(2);

writeSync(1, "begin\n");
using repo = openRepository(null, path);
await using source = openServed(reference, root);
const { deploymentId } = await makeBootImage(repo, await pullImage(repo, source));
dropDownloads(repo);
writeSync(1, `done ${deploymentId}\n`);
