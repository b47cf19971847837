//! What the tables promise, as questions whose every answer is a broken promise.
//!
//! Sums of rewards are compared with room for rounding, which depends on the order of the rewards: a millionth of what
//! their magnitudes add up to. A magnitude beyond float64 leaves all the room there is.

/// What to say of an answer, and the query that finds it.
pub(super) const QUESTIONS: &[(&str, &str)] = &[
    (
        "row {} has no state",
        "SELECT t.id FROM trajectory t LEFT JOIN vector v ON v.id = t.id WHERE v.id IS NULL",
    ),
    (
        "state {} belongs to no row",
        "SELECT v.id FROM vector v LEFT JOIN trajectory t ON t.id = v.id WHERE t.id IS NULL",
    ),
    (
        "row {} has a reward or a return that is not finite",
        "SELECT id FROM trajectory WHERE abs(reward) > 1.7976931348623157e308
         OR abs(return_to_go) > 1.7976931348623157e308",
    ),
    (
        "row {} has a quality outside of 0 to 1",
        "SELECT id FROM trajectory WHERE quality NOT BETWEEN 0 AND 1",
    ),
    (
        "row {} has a flag that is neither yes nor no",
        "SELECT id FROM trajectory WHERE ended NOT BETWEEN 0 AND 3 OR success NOT IN (0, 1)",
    ),
    (
        "row {} has an id that carries another key",
        "SELECT id FROM trajectory WHERE length(uuid) <> 16
         OR hex(substr(uuid, 12)) <> printf('%010X', id)",
    ),
    (
        "row {} has metadata that is no JSON",
        "SELECT id FROM trajectory WHERE NOT json_valid(action_metadata)
         OR CASE WHEN json_valid(extra) THEN json_type(extra) ELSE 'none' END <> 'object'
         AND extra IS NOT NULL",
    ),
    (
        "the counter of rows stands at or below the newest row, {}",
        "SELECT newest FROM (SELECT max(id) AS newest FROM trajectory)
         WHERE newest >= (SELECT value FROM meta WHERE key = 'next_row')",
    ),
    (
        "row {} names an action that is not there",
        "SELECT t.id FROM trajectory t LEFT JOIN action a ON a.id = t.action WHERE a.id IS NULL",
    ),
    (
        "row {} names a label that is not there",
        "SELECT t.id FROM trajectory t WHERE t.task_type NOT IN (SELECT id FROM label)
         OR t.agent_type NOT IN (SELECT id FROM label)",
    ),
    (
        "action {} has no embedding or no pattern",
        "SELECT a.id FROM action a LEFT JOIN action_vector v ON v.id = a.id
         LEFT JOIN pattern p ON p.id = a.pattern WHERE v.id IS NULL OR p.id IS NULL",
    ),
    (
        "episode {} does not count its steps",
        "SELECT e.id FROM episode e LEFT JOIN
         (SELECT episode, count(*) AS n FROM trajectory GROUP BY episode) t ON t.episode = e.id
         WHERE e.steps IS NOT t.n",
    ),
    (
        "episode {} does not hold the sum of its rewards",
        "SELECT e.id FROM episode e JOIN
         (SELECT episode, total(reward) AS sum, total(abs(reward)) AS size FROM trajectory
          GROUP BY episode) t ON t.episode = e.id
         WHERE abs(e.total_reward - t.sum) > 1e-6 * t.size
         OR abs(e.total_reward) > 1.7976931348623157e308",
    ),
    (
        "episode {} has metadata that is no JSON, or a flag that is neither yes nor no",
        "SELECT id FROM episode WHERE success NOT IN (0, 1)
         OR CASE WHEN json_valid(metadata) THEN json_type(metadata) ELSE 'none' END <> 'object'
         AND metadata IS NOT NULL",
    ),
    (
        "row {} names an episode that is not there",
        "SELECT t.id FROM trajectory t LEFT JOIN episode e ON e.id = t.episode WHERE e.id IS NULL",
    ),
    (
        "row {} is not found by its episode",
        "SELECT t.id FROM trajectory t WHERE NOT EXISTS (SELECT 1 FROM span s
         WHERE s.episode = t.episode AND t.id BETWEEN s.first AND s.last)",
    ),
    (
        "row {} is found by an episode that it is not of, or twice",
        "SELECT t.id FROM span s CROSS JOIN trajectory t ON t.id BETWEEN s.first AND s.last
         GROUP BY t.id HAVING count(*) > 1 OR max(s.episode) <> t.episode",
    ),
    (
        "action {} does not count its uses",
        "SELECT a.id FROM action a LEFT JOIN
         (SELECT action, count(*) AS n FROM trajectory GROUP BY action) t ON t.action = a.id
         WHERE a.uses IS NOT t.n",
    ),
    (
        "pattern {} does not count its uses or successes",
        "SELECT p.id FROM pattern p LEFT JOIN
         (SELECT a.pattern, count(*) AS n, sum(ifnull(t.success, t.reward > 0.5)) AS successes
          FROM trajectory t JOIN action a ON a.id = t.action GROUP BY a.pattern) t
         ON t.pattern = p.id
         WHERE p.uses <> ifnull(t.n, 0) OR p.successes <> ifnull(t.successes, 0)",
    ),
    (
        "pattern {} does not hold the sum of its rewards",
        "SELECT p.id FROM pattern p LEFT JOIN
         (SELECT a.pattern, total(t.reward) AS sum, total(abs(t.reward)) AS size
          FROM trajectory t JOIN action a ON a.id = t.action GROUP BY a.pattern) t
         ON t.pattern = p.id
         WHERE abs(p.reward_sum - ifnull(t.sum, 0)) > 1e-6 * max(1, ifnull(t.size, 0))
         OR abs(p.reward_sum) > 1.7976931348623157e308",
    ),
    (
        "the description of pattern {} describes nothing",
        "SELECT e.pattern FROM pattern_entry e LEFT JOIN pattern p ON p.id = e.pattern
         WHERE p.id IS NULL",
    ),
    (
        "the description of pattern {} has a payload that is no JSON",
        "SELECT pattern FROM pattern_entry WHERE NOT json_valid(payload)",
    ),
    (
        "priority {} belongs to no row",
        "SELECT p.id FROM priority p LEFT JOIN trajectory t ON t.id = p.id WHERE t.id IS NULL",
    ),
];
