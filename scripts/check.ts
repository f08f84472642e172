// `npm run check`: format, lint, types and unit tests, in well under a minute. Needs nothing but npm.

import { addCounts, checkSources, formatCounts, runProject } from "./check/steps.ts";

const [sources, unit] = await Promise.all([checkSources(), runProject("unit")]);
const counts = addCounts([...sources, unit]);
console.log(formatCounts(counts));
process.exitCode = counts.failed === 0 ? 0 : 1;
