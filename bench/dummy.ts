/** A process that does nothing, for the given share of one core: what any neighbour of that size would cost. */

const share = Number(process.argv[2]);
const sliceMs = 2;

function work(): void {
  const end = performance.now() + sliceMs;
  while (performance.now() < end);
  setTimeout(work, sliceMs / share - sliceMs);
}
work();
process.on('disconnect', () => process.exit(0));
