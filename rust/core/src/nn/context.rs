//! The context block: what came before a step. The same function builds it in training and in use.

use super::settings::{ContextKind, LayerSettings};

/// The contexts of an episode's steps, `[n, state_size]`, from its states `[n, state_size]` and its actions
/// `[n, action_size]`, in order. The first is zero, and none sees its own step's action.
pub fn contexts(settings: &LayerSettings, states: &[f32], actions: &[f32]) -> Vec<f32> {
    let mut contexts = vec![0.0; states.len()];
    let rows = contexts.chunks_exact_mut(settings.state_size);
    for (step, context) in rows.enumerate() {
        let past = past(settings, step);
        let states = &states[(step - past.states) * settings.state_size..];
        let actions = &actions[(step - past.actions) * settings.action_size..];
        context_after(
            settings,
            &states[..past.states * settings.state_size],
            &actions[..past.actions * settings.action_size],
            context,
        );
    }
    contexts
}

/// How many of the steps just before one its context looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The last states.
    pub states: usize,
    /// The last actions.
    pub actions: usize,
}

/// What the context of the step at position `step` of its episode looks at.
pub fn past(settings: &LayerSettings, step: usize) -> Past {
    match settings.context {
        ContextKind::None => Past { states: 0, actions: 0 },
        ContextKind::History => Past { states: step.min(settings.history_length), actions: 0 },
        ContextKind::PreviousAction => Past { states: 0, actions: step.min(1) },
    }
}

/// The context of one step from as much of its past as [`past`] asks for, oldest first.
pub fn context_after(
    settings: &LayerSettings,
    states: &[f32],
    actions: &[f32],
    context: &mut [f32],
) {
    context.fill(0.0);
    match settings.context {
        ContextKind::PreviousAction if !actions.is_empty() => context.copy_from_slice(actions),
        ContextKind::History if !states.is_empty() => {
            for state in states.chunks_exact(context.len()) {
                context.iter_mut().zip(state).for_each(|(sum, x)| *sum += x);
            }
            let seen = (states.len() / context.len()) as f32;
            for sum in context {
                *sum /= seen;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    const ACTIONS: [f32; 8] = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0];

    fn settings(context: ContextKind) -> LayerSettings {
        LayerSettings { context, history_length: 2, ..LayerSettings::new(2, 2) }
    }

    #[test]
    fn history_is_the_mean_of_the_last_states_before_the_step() {
        let contexts = contexts(&settings(ContextKind::History), &STATES, &ACTIONS);
        assert_eq!(contexts, [0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn the_previous_action_is_never_the_step_s_own() {
        let contexts = contexts(&settings(ContextKind::PreviousAction), &STATES, &ACTIONS);
        assert_eq!(contexts, [0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0]);
    }

    #[test]
    fn no_context_is_zeros_and_an_empty_episode_has_none() {
        assert_eq!(contexts(&settings(ContextKind::None), &STATES, &ACTIONS), [0.0; 8]);
        assert!(contexts(&settings(ContextKind::PreviousAction), &[], &[]).is_empty());
    }
}
