"""From a config file to the parts of a run, in this order: `loading` reads files, with what they extend (`files`,
`yaml_files`) and where each value stands (`places`); `overrides` changes it; `frame` looks at its top; `plan` has every
section looked up (`lookup`) and bound (`binding`) to signatures (`signatures`, `schemas`)."""
