// Writing part of an image's tree out as plain files: /etc of a deployment, /var at install.

import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { writeImageContent } from "./etc-merge.ts";
import { writeTree } from "./etc-write.ts";

/** Creates the directory `target` with everything in `tree`. Nothing is synced. */
export function extractTree(repo: Repository, tree: DirectoryNode, target: string): void {
  writeTree(tree, null, target, (file, _path, output) => writeImageContent(repo, file, output));
}
