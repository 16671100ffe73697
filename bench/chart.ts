import { ratio, type Results } from './results.ts';
import { rows } from './rows.ts';

/** docs/benchmarks.svg: CPU per operation relative to nginx, a bar for each peer of each row. */

const drawn = ['haproxy', 'hitch', 'caddy', 'apache', 'staplegate'];
const barHeight = 11;
const groupGap = 18;
const left = 330;
const unit = 140;
const most = 4;
const width = left + unit * most + 60;

export function chart(results: Results): string {
  const parts: string[] = [];
  let y = 92;
  for (const [name, row] of Object.entries(rows)) {
    const measured = results[name];
    if (!measured || Object.keys(row.figures)[0] !== 'cpu') continue;
    const top = y;
    for (const peer of drawn) {
      const times = ratio(measured, peer, 'nginx', 'cpu');
      if (times === undefined) continue;
      const length = Math.min(times, most) * unit;
      parts.push(`<rect class="${peer}" x="${left}" y="${y}" width="${length.toFixed(1)}" height="${barHeight - 1}"/>`);
      // Not across the line of nginx.
      const after = times > 0.65 && times < 1 ? unit : length;
      parts.push(`<text class="figure" x="${(left + after + 4).toFixed(1)}" y="${y + 9}">${times.toFixed(2)}</text>`);
      y += barHeight;
    }
    parts.push(
      `<text x="${left - 12}" y="${(top + y) / 2 + 4}" text-anchor="end">${row.title.replace(', answers of', ',').replace('connections × 4 streams', '× 4')}</text>`,
    );
    y += groupGap;
  }
  const bottom = y - groupGap + 8;
  const legend = drawn.map((peer, i) => {
    const x = left + i * 105;
    return `<rect class="${peer}" x="${x}" y="54" width="12" height="12"/><text x="${x + 18}" y="64">${peer === 'staplegate' ? 'Staplegate' : peer}</text>`;
  });
  const lines = Array.from({ length: most }, (_, i) => i + 1).map(
    (n) =>
      `<path class="${n === 1 ? 'nginx' : 'grid'}" d="M${left + n * unit} 80V${bottom}"/><text class="figure" x="${left + n * unit}" y="${bottom + 14}" text-anchor="middle">${n === 1 ? 'nginx' : `${n} ×`}</text>`,
  );
  const height = bottom + 30;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title description">
<title id="title">CPU time per operation, relative to nginx</title>
<desc id="description">For each kind of work a bar for each server; nginx is the line at 1. Shorter is better. docs/benchmarks.md has the figures.</desc>
<style>
svg { font: 13px system-ui, sans-serif }
.page { fill: #ffffff; stroke: #d0d7de }
text { fill: #1f2328 }
.figure { font-size: 10px; fill: #57606a }
.head { font-size: 15px; font-weight: 600 }
.grid { stroke: #d0d7de }
.nginx { stroke: #1f2328; stroke-width: 1.5 }
.haproxy { fill: #8c959f }
.hitch { fill: #b6bcc4 }
.caddy { fill: #6fb3b8 }
.apache { fill: #c58fd0 }
.staplegate { fill: #0969da }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; stroke: #30363d }
  text { fill: #e6edf3 }
  .figure { fill: #9198a1 }
  .grid { stroke: #30363d }
  .nginx { stroke: #e6edf3 }
  .haproxy { fill: #6e7681 }
  .hitch { fill: #484f58 }
  .caddy { fill: #2f7f86 }
  .apache { fill: #8a5a96 }
  .staplegate { fill: #4493f8 }
}
</style>
<rect class="page" x="1" y="1" width="${width - 2}" height="${height - 2}" rx="8"/>
<text class="head" x="30" y="32">CPU time per operation, relative to nginx (shorter is better)</text>
${legend.join('\n')}
${lines.join('\n')}
${parts.join('\n')}
</svg>
`;
}
