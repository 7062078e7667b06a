"""How the page looks: readable on a telephone, too; no color carries a meaning alone."""

STYLE = """
:root{color-scheme:light}
body{margin:0;background:#fff;color:#1a1a1a;font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:1rem}
h1{font-size:1.7rem;margin:.5rem 0}h2{font-size:1.25rem;margin:2rem 0 .5rem;border-bottom:1px solid #ccc}
h3{font-size:1rem;margin:1.2rem 0 .3rem;overflow-wrap:anywhere}
p,li,dd{max-width:75ch;overflow-wrap:anywhere}
small{color:#555}pre{background:#f3f3f3;padding:.6rem;overflow-x:auto}
dt{font-weight:600}dd{margin:0 0 .4rem}
.scroll{overflow-x:auto;margin:.4rem 0 1rem}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}
th{border-bottom:2px solid #888}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:1.2rem}
figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:.9rem;overflow-wrap:anywhere}
figure>svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:#333}svg .end{text-anchor:end}svg .middle{text-anchor:middle}
.grid{stroke:#e3e3e3}.axis,.tick{stroke:#666;fill:none}.line{fill:none;stroke-width:1.8}
.bar{fill:#0072b2}.shade{fill:#e69f00;fill-opacity:.25}.mark{stroke:#000;stroke-dasharray:3 3;fill:none}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:.2rem 0 0;padding:0;font-size:.82rem}
.legend li{overflow-wrap:anywhere}.sample{width:32px;height:14px;vertical-align:middle}
summary{cursor:pointer;padding:.25rem 0;overflow-wrap:anywhere}
.claim{border-bottom:1px solid #e3e3e3}
.yes,.no,.open{display:inline-block;padding:0 .4rem;border-radius:.3rem;font-size:.85rem;border:1px solid}
.yes{color:#00533c;background:#e3f4ee}.no{color:#8a3b00;background:#fdeee2}.open{color:#333;background:#f0f0f0}
"""
