"""How the page looks: fonts of the reader's system, one accent, light and dark as the system is."""

import gradio

THEME = gradio.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    radius_size="sm",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
)

CSS = """
.title { font-size: 1.25rem; font-weight: 600; margin: 0; }
.gradio-container { width: 100%; max-width: 60rem !important; margin: 0 auto !important; }
.answer { --line: var(--border-color-primary); line-height: 1.5;
  --quiet: color-mix(in srgb, var(--body-text-color) 68%, transparent); }
.answer h3 { font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .5rem; }
.answer .hint { color: var(--quiet); font-size: .8125rem; font-weight: 400; }
.answer h3 .hint { margin-left: .5rem; }
.answer p.hint { margin: 1.25rem 0 0; }
.answer .number { color: var(--quiet); font-variant-numeric: tabular-nums; white-space: nowrap; }
.answer a.permanent { margin: 0; padding: 0; text-decoration: underline;
  color: var(--link-text-color, #2563eb); }
.fault { border-left: 3px solid #dc2626; padding: .5rem .75rem; margin: 1rem 0; }

.hypotheses, .classes { list-style: none; margin: 0; padding: 0; }
.hypotheses li { display: flex; gap: 1rem; justify-content: space-between; margin: 0;
  padding: .4rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.hypotheses li:first-child { font-size: 1.25rem; border-top: 0; }
.hypotheses li:first-child .number { font-size: 1rem; align-self: center; }

.pair { display: grid; gap: .75rem; }
.pair .side { margin: 0; line-height: 2.1; overflow-wrap: anywhere; }
.pair .word { font: inherit; font-size: 1.125rem; color: inherit; cursor: default;
  max-width: 100%; overflow-wrap: anywhere; padding: .05rem .3rem; border: 0; border-radius: .25rem;
  background: color-mix(in srgb, var(--color-accent) calc(var(--share, 0) * 65%), transparent); }
.pair .word:hover, .pair .word:focus { outline: 2px solid var(--color-accent); }

.classes li { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; margin: 0 0 .5rem; }
.classes .bar { grid-column: 1 / -1; height: .5rem; border-radius: .25rem;
  background: linear-gradient(var(--color-accent), var(--color-accent)) no-repeat
    0 / calc(var(--share) * 100%) 100%, var(--line); }

.looks { display: grid; grid-template-columns: minmax(0, 20rem) minmax(0, 1fr); gap: 2rem; }
.looks .seen { display: block; position: relative; aspect-ratio: var(--ratio);
  background: var(--picture) 0 / 100% 100%; border-radius: .25rem; overflow: hidden; }
.looks.coarse .seen { image-rendering: pixelated; }
.looks .seen img { width: 100%; height: 100%; margin: 0; image-rendering: auto; }
.looks .look { display: none; margin: 0; }
.looks .look .seen:hover img { opacity: .15; }
.looks figcaption { font-size: .875rem; margin-top: .5rem; text-align: left;
  color: var(--body-text-color); }
.choices { display: grid; gap: .375rem; align-items: center; align-content: start;
  grid-template-columns: max-content repeat(var(--columns), minmax(0, 4rem)); }
.choices .hint { text-align: center; }
.choices .row { text-align: left; grid-column: 1; padding-right: .375rem; }
.choices .choice { position: relative; cursor: pointer; display: block; }
.choices input { position: absolute; opacity: 0; }
.choices .seen { outline: 2px solid transparent; outline-offset: 1px; }
.choices input:not(:checked):hover + .seen { outline-color: var(--line); }
.choices input:checked + .seen { outline-color: var(--color-accent); }
.choices input:focus-visible + .seen { outline-width: 4px; }
@media (max-width: 40rem) {
  .gradio-container { padding: .75rem !important; }
  .looks { grid-template-columns: 1fr; gap: 1rem; }
}
"""
