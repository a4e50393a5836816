//! Reads feature files: scenarios, their steps, and the blocks below them. Knows nothing of what steps mean.

/// A scenario: what is done, and what must hold.
pub(in crate::tests) struct Scenario<'t> {
    pub(in crate::tests) name: &'t str,
    pub(in crate::tests) steps: Vec<Step<'t>>,
}

/// A line that begins with `Given`, `When`, `Then`, `And` or `But`.
pub(in crate::tests) struct Step<'t> {
    /// The line in the file, from 1.
    pub(in crate::tests) line: usize,
    /// What stands after the keyword, without a closing colon.
    pub(in crate::tests) text: &'t str,
    /// The block below it, without its indentation.
    pub(in crate::tests) block: Option<String>,
}

/// Reads the scenarios of a file. Steps before the first scenario, below `Background:`, begin each of them.
pub(in crate::tests) fn read(text: &str) -> Result<Vec<Scenario<'_>>, String> {
    let mut scenarios: Vec<Scenario<'_>> = Vec::new();
    let mut background = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Scenario: ") {
            let steps = background.iter().map(Step::copy).collect();
            scenarios.push(Scenario { name, steps });
        } else if line == "\"\"\"yaml" || line == "\"\"\"" {
            let indent = text.lines().nth(number - 1).map_or(0, |line| line.len() - line.trim_start().len());
            let block: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line.get(indent..).unwrap_or_else(|| line.trim_start()))
                .take_while(|line| line.trim() != "\"\"\"")
                .collect();
            let steps = scenarios.last_mut().map_or(&mut background, |scenario| &mut scenario.steps);
            let step =
                steps.last_mut().ok_or_else(|| format!("line {number}: a block belongs below a step"))?;
            step.block = Some(block.join("\n") + "\n");
        } else if let Some(text) = step(line) {
            let steps = scenarios.last_mut().map_or(&mut background, |scenario| &mut scenario.steps);
            steps.push(Step { line: number, text: text.trim_end_matches(':'), block: None });
        }
    }
    Ok(scenarios)
}

fn step(line: &str) -> Option<&str> {
    let (keyword, text) = line.split_once(' ')?;
    ["Given", "When", "Then", "And", "But"].contains(&keyword).then(|| text.trim())
}

impl Step<'_> {
    fn copy(&self) -> Self {
        Self { line: self.line, text: self.text, block: self.block.clone() }
    }
}
